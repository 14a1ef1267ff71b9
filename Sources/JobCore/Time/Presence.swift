import Synchronization
public import SystemPackage

/// When this daemon was last seen alive, and whether its clock can be relied on: one small file of two numbers, seconds since 1970.
///
/// After a downtime of more than a day, and after the clock was set by more than a minute, ages are not to be trusted for a day: nobody has
/// had the time to see that the clock is wrong. Losing the file counts as a long downtime.
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
    private let quarantineEnd: Mutex<WallTime>

    /// Reads what an earlier run has left, and takes note that this one is there.
    /// - Parameter file: in a directory that nobody else can write to.
    public init(file: FilePath, clock: any WallClock = SystemWallClock()) {
        self.file = file
        self.clock = clock
        let now = clock.now
        var numbers: [WallTime] = []
        var notice: String?
        do throws(StateFileError) {
            numbers = String(decoding: try StateFile.read(file) ?? [], as: UTF8.self).split(separator: "\n")
                .compactMap { Int64($0) }.map { WallTime(secondsSince1970: $0) }
        } catch {
            notice = "\(error)"
        }
        lastSeen = numbers.count == 2 ? numbers[0] : nil
        var until = now + Self.quarantine
        if let lastSeen, now - lastSeen <= Self.longestAbsence, lastSeen - now < Self.smallestStep {
            until = min(until, numbers[1])
        }
        quarantineEnd = Mutex(until)
        do throws(StateFileError) {
            try Self.write(now, until, to: file)
        } catch {
            notice = "\(error)"
        }
        self.notice = notice
    }

    /// Until when ages are not to be trusted; nil: they are.
    public var distrustedUntil: WallTime? {
        let until = quarantineEnd.withLock(\.self)
        return until > clock.now ? until : nil
    }

    /// The daemon is alive; to be called every hour or so.
    /// - Throws: ``StateFileError`` when that cannot be written: the next start will count the time since as a downtime.
    public func note() throws(StateFileError) {
        try Self.write(clock.now, quarantineEnd.withLock(\.self), to: file)
    }

    private static func write(_ now: WallTime, _ until: WallTime, to file: FilePath) throws(StateFileError) {
        try StateFile.replace(
            file, with: "\(now.secondsSince1970)\n\(until.secondsSince1970)\n", isDurable: false)
    }

    /// The machine's clock was set.
    /// - Parameter step: by how much; negative: back.
    /// - Throws: ``StateFileError`` when that cannot be written; it holds for this run all the same.
    public func clockWasSet(by step: Duration) throws(StateFileError) {
        guard step >= Self.smallestStep || step <= .zero - Self.smallestStep else { return }
        quarantineEnd.withLock { $0 = clock.now + Self.quarantine }
        try note()
    }
}
