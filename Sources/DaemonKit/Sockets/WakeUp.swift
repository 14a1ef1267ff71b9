import CLinux
import Glibc
import SystemPackage

/// Wakes a thread that sleeps in poll(2) (eventfd(2)).
final class WakeUp: Sendable {
    let descriptor: Int32

    init() throws(Errno) {
        descriptor = clinux_eventfd()
        guard descriptor >= 0 else { throw Errno(rawValue: errno) }
    }

    deinit { close(descriptor) }

    /// Makes the descriptor readable until `clear`. Many signals count as one.
    func signal() {
        var one: UInt64 = 1
        Glibc.write(descriptor, &one, 8)
    }

    func clear() {
        var count: UInt64 = 0
        read(descriptor, &count, 8)
    }
}
