import Synchronization
public import SystemPackage

/// When this daemon was last seen alive, and whether its clock can be relied on: one small file of three numbers, seconds since 1970.
///
/// After a downtime of more than a day, and after the clock was set by more than a minute, ages are not to be trusted for a day: nobody has
/// had the time to see that the clock is wrong. Losing the file counts as a long downtime.
///
/// The same events, except for a lost file, cast doubt on the clock itself as long as nothing keeps it right.
public final class Presence: Sendable {
    /// How long ages are not trusted.
    private static let quarantine = Duration.seconds(86_400)
    private static let longestAbsence = Duration.seconds(86_400)
    private static let smallestStep = Duration.seconds(60)

    /// When an earlier run of the daemon was last seen; nil: there was none, or it is not known.
    public let lastSeen: WallTime?
    /// What an operator should know: the file cannot be used.
    public let notice: String?
    private let file: FilePath
    private let clock: any WallClock
    private let isSynchronized: @Sendable () -> Bool
    private let state: Mutex<State>

    private struct State {
        /// When ages are trusted again.
        var quarantineEnd: WallTime
        /// When the clock is believed again, even if nothing keeps it right; nil: it is.
        var doubtEnd: WallTime?
    }

    /// Reads what an earlier run has left, and takes note that this one is there.
    /// - Parameters:
    ///   - file: in a directory that nobody else can write to.
    ///   - isSynchronized: whether something, such as NTP, keeps the machine's clock right.
    public init(
        file: FilePath, clock: any WallClock = SystemWallClock(),
        isSynchronized: @escaping @Sendable () -> Bool = { true }
    ) {
        self.file = file
        self.clock = clock
        self.isSynchronized = isSynchronized
        let now = clock.now
        var numbers: [WallTime] = []
        var notice: String?
        do throws(StateFileError) {
            numbers = String(decoding: try StateFile.read(file) ?? [], as: UTF8.self).split(separator: "\n")
                .compactMap { Int64($0) }.map { WallTime(secondsSince1970: $0) }
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

    /// Until when ages are not to be trusted; nil: they are.
    public var distrustedUntil: WallTime? {
        let until = state.withLock(\.quarantineEnd)
        return until > clock.now ? until : nil
    }

    /// Until when at most the clock is not believed: the machine was away, or its clock was set, and nothing keeps it right. nil: it is believed.
    public var clockDoubtedUntil: WallTime? {
        guard let until = state.withLock(\.doubtEnd), until > clock.now, !isSynchronized() else { return nil }
        return until
    }

    /// The daemon is alive; to be called every hour or so.
    /// - Throws: ``StateFileError`` when that cannot be written: the next start will count the time since as a downtime.
    public func note() throws(StateFileError) {
        try Self.write(clock.now, state.withLock(\.self), to: file)
    }

    private static func write(_ now: WallTime, _ state: State, to file: FilePath) throws(StateFileError) {
        let times = [now, state.quarantineEnd, state.doubtEnd].compactMap(\.self)
        try StateFile.replace(file, with: times.map { "\($0.secondsSince1970)\n" }.joined(), isDurable: false)
    }

    /// The machine's clock was set.
    /// - Parameter step: by how much; negative: back.
    /// - Throws: ``StateFileError`` when that cannot be written; it holds for this run all the same.
    public func clockWasSet(by step: Duration) throws(StateFileError) {
        guard step >= Self.smallestStep || step <= .zero - Self.smallestStep else { return }
        let end = clock.now + Self.quarantine
        state.withLock { $0 = State(quarantineEnd: end, doubtEnd: end) }
        try note()
    }
}
