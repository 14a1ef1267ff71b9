import CLinux
import Glibc
public import SystemPackage

/// Whether something keeps the machine's clock right, as the kernel says (adjtimex(2)).
public enum ClockSynchronization: Hashable, Sendable {
    case synchronized
    /// Nothing has set it for so long that it may be wrong.
    case unsynchronized
    /// The host of this container keeps the clock, and may say nothing about it.
    case container
    case unknown(Errno)

    /// Files that container managers put where a container can see them.
    private static let containerMarks = ["/.dockerenv", "/run/.containerenv", "/run/systemd/container"]

    /// At this moment.
    public static var current: Self {
        switch clinux_clock_is_synchronized() {
        case 1: .synchronized
        case 0: containerMarks.contains { access($0, F_OK) == 0 } ? .container : .unsynchronized
        default: .unknown(Errno(rawValue: errno))
        }
    }
}
