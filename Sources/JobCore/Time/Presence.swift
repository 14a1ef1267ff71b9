import CLinux
import Glibc
import Synchronization
package import SystemPackage

/// Records when the daemon was last alive, and decides whether the clock can be relied on. The file has three
/// numbers: seconds since 1970.
///
/// After a downtime of more than a day, and after the clock was set by more than a minute, ages are not trusted for a
/// day, so that an operator can notice a wrong clock. A lost file counts as a long downtime.
///
/// The same events, except for a lost file, make the clock itself doubtful until something synchronizes it.
package final class Presence: Sendable {
    /// How long ages are not trusted.
    private static let quarantine = Duration.seconds(86_400)
    private static let longestAbsence = Duration.seconds(86_400)
    private static let smallestStep = Duration.seconds(60)

    /// When an earlier run was last alive; nil: there was none, or it is unknown.
    package let lastSeen: Timestamp?
    /// A message for the operator: the file cannot be used.
    package let notice: String?
    private let file: FilePath
    private let clock: any WallClock
    private let isSynchronized: @Sendable () -> Bool
    private let state: Mutex<State>
    /// Held while the file is written: the clock may be set while ``note()`` runs.
    private let writing = Mutex(())

    private struct State {
        /// When ages are trusted again.
        var quarantineEnd: Timestamp
        /// When the clock is trusted again, even if nothing synchronizes it; nil: it is trusted.
        var doubtEnd: Timestamp?
    }

    /// Reads the file of an earlier run, and records that this run is alive.
    /// - Parameters:
    ///   - file: in a directory that only this user can write to.
    ///   - isSynchronized: whether something, such as NTP, synchronizes the clock.
    package init(
        file: FilePath, clock: any WallClock = SystemWallClock(),
        isSynchronized: @escaping @Sendable () -> Bool = { true }
    ) {
        self.file = file
        self.clock = clock
        self.isSynchronized = isSynchronized
        let now = clock.now
        var numbers: [Timestamp] = []
        var notice: String?
        do throws(StateFileError) {
            numbers = String(decoding: try StateFile.read(file) ?? [], as: UTF8.self).split(separator: "\n")
                .compactMap { Int64($0) }.map { Timestamp(secondsSince1970: $0) }
        } catch {
            notice = "\(error)"
        }
        lastSeen = numbers.count == 2 || numbers.count == 3 ? numbers[0] : nil
        let end = now + Self.quarantine
        var state = State(quarantineEnd: end)
        if let lastSeen {
            let isOrderly = now - lastSeen <= Self.longestAbsence && lastSeen - now < Self.smallestStep
            state.quarantineEnd = isOrderly ? min(end, numbers[1]) : end
            state.doubtEnd = isOrderly ? numbers.dropFirst(2).first.map { min(end, $0) } : end
        }
        self.state = Mutex(state)
        do throws(StateFileError) {
            try Self.write(now, state, to: file)
        } catch {
            notice = "\(error)"
        }
        self.notice = notice
    }

    /// Until when ages are not trusted; nil: they are.
    package var distrustedUntil: Timestamp? {
        let until = state.withLock(\.quarantineEnd)
        return until > clock.now ? until : nil
    }

    /// Until when the clock is not trusted, at most: the daemon was away or the clock was set, and nothing
    /// synchronizes it. nil: it is trusted.
    package var clockDoubtedUntil: Timestamp? {
        guard let until = state.withLock(\.doubtEnd), until > clock.now, !isSynchronized() else { return nil }
        return until
    }

    /// Records that the daemon is alive; called about every hour.
    /// - Throws: ``StateFileError`` if that cannot be written: the next start will count the time since as downtime.
    package func note() throws(StateFileError) {
        try writing.withLock { _ throws(StateFileError) in
            try Self.write(clock.now, state.withLock(\.self), to: file)
        }
    }

    private static func write(_ now: Timestamp, _ state: State, to file: FilePath) throws(StateFileError) {
        let times = [now, state.quarantineEnd, state.doubtEnd].compactMap(\.self)
        try StateFile.replace(file, with: times.map { "\($0.secondsSince1970)\n" }.joined(), isDurable: false)
    }

    /// The clock was set.
    /// - Parameter step: by how much; negative: back.
    /// - Throws: ``StateFileError`` if that cannot be written; it still applies to this run.
    package func clockWasSet(by step: Duration) throws(StateFileError) {
        guard step >= Self.smallestStep || step <= .zero - Self.smallestStep else { return }
        let end = clock.now + Self.quarantine
        state.withLock { $0 = State(quarantineEnd: end, doubtEnd: end) }
        try note()
    }
}

/// Whether the clock is synchronized, according to the kernel (adjtimex(2)).
package enum ClockSynchronization: Hashable, Sendable {
    case synchronized
    /// Nothing has set the clock for a long time.
    case unsynchronized
    /// The container's host synchronizes the clock; its state is not visible.
    case container
    case unknown(Errno)

    /// Files that container managers create.
    private static let containerMarks = ["/.dockerenv", "/run/.containerenv", "/run/systemd/container"]

    /// The current state.
    package static var current: Self {
        switch clinux_clock_is_synchronized() {
        case 1: .synchronized
        case 0: containerMarks.contains { access($0, F_OK) == 0 } ? .container : .unsynchronized
        default: .unknown(Errno(rawValue: errno))
        }
    }
}
