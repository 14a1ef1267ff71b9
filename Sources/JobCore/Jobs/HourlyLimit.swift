import EventLoop
import Synchronization
public import SystemPackage

/// So many subjects at most within any hour, also over a restart: a guard against a mistake that would otherwise be carried out at once for all of them.
///
/// The subjects of the last hour are in a small file, which is safely on the disk before one is admitted. A subject that is admitted again within
/// the hour, such as after a failure, counts once. Those that have to wait get times one after the other, so that none overtakes another and few ask
/// at the same time. It goes by the wall clock: setting it forward by an hour lets as many pass once more.
public final class HourlyLimit: Sendable {
    /// How it stands.
    public struct Summary: Hashable, Sendable {
        /// So many within an hour; 0: no limit.
        public var limit = 0
        /// How many subjects wait for their time.
        public var count = 0
        /// The first of those that wait, by their time; at most ``HourlyLimit/mostNamed``.
        public var waiting: [String] = []
        /// When the first of them may be admitted; nil: none waits.
        public var next: WallTime?

        /// No limit.
        public init() {}
    }

    fileprivate struct State {
        var limit: Int
        /// Admitted within the last hour, or a little longer ago.
        var admitted: [String: WallTime]
        /// Not admitted, and when each is to ask again.
        var waiting: [String: WallTime] = [:]
        /// The last time that one of them was given.
        var last = WallTime.distantPast
        /// When it was told that subjects wait.
        var told: WallTime?
    }

    /// The most that a limit can be, so that the file stays small.
    public static let largest = 1_000
    /// How many a summary names.
    public static let mostNamed = 1_000
    fileprivate static let hour = Duration.seconds(3_600)

    /// What is to be told to the operator: nil unless a damaged file was set aside.
    public let notice: String?
    private let file: FilePath?
    private let exceeded: @Sendable (Summary) -> Void
    private let state: Mutex<State>
    /// Held while the file is written.
    private let recording = Mutex(())

    /// - Parameters:
    ///   - file: in a directory that exists; nil: nothing outlasts the process.
    ///   - limit: so many within an hour (1…``largest``); 0: no limit.
    ///   - exceeded: called when a subject has to wait, at most once an hour.
    /// - Throws: ``StateFileError`` when the file cannot be read or set aside.
    public init(
        file: FilePath? = nil, limit: Int = 0, now: WallTime = SystemWallClock().now,
        exceeded: @escaping @Sendable (Summary) -> Void = { _ in }
    ) throws(StateFileError) {
        self.file = file
        self.exceeded = exceeded
        let contents =
            try file.map { file throws(StateFileError) in
                try StateFile.read(file, atMost: Self.largestSize) ?? []
            } ?? []
        if let admitted = Self.admitted(in: String(decoding: contents, as: UTF8.self)) {
            notice = nil
            state = Mutex(State(limit: limit, admitted: admitted))
        } else {
            let aside = try file.map { file throws(StateFileError) in
                try StateFile.setAside(file, at: Int(now.secondsSince1970))
            }
            notice =
                "\(file?.printable ?? ""): is damaged; it was set aside as \(aside?.printable ?? ""), and what happened in the last hour is not counted"
            state = Mutex(State(limit: limit, admitted: [:]))
        }
    }

    /// No limit, and nothing is recorded.
    public static func none() -> HourlyLimit { HourlyLimit() }

    private init() {
        (file, notice, exceeded) = (nil, nil, { _ in })
        state = Mutex(State(limit: 0, admitted: [:]))
    }

    /// Another limit holds from now on. Those that wait are to ask again.
    public func setLimit(_ limit: Int) {
        state.withLock { state in
            guard state.limit != limit else { return }
            state = State(limit: limit, admitted: state.admitted)
        }
    }

    /// Whether a subject has to wait.
    /// - Returns: when to ask again; nil: it would be admitted now.
    public func wait(_ subject: String, now: WallTime) -> WallTime? {
        let (time, news) = state.withLock { state in state.wait(subject, now: now) }
        if let news { exceeded(news) }
        return time
    }

    /// Counts a subject, unless there are too many.
    /// - Parameters:
    ///   - subject: printable, without blanks.
    ///   - isUrgent: it is admitted whatever the limit, and counts: a person asks for this one.
    /// - Returns: when to ask again; nil: the subject is admitted.
    /// - Throws: ``StateFileError`` when that cannot be recorded: then it is not admitted.
    public func admit(
        _ subject: String, now: WallTime, isUrgent: Bool = false
    ) async throws(StateFileError) -> WallTime? {
        let (answer, isNew, former) = state.withLock { state in
            let answer = isUrgent ? (time: nil, news: nil) : state.wait(subject, now: now)
            guard answer.time == nil else { return (answer, false, nil as WallTime?) }
            let former = state.waiting.removeValue(forKey: subject)
            let isNew = state.limit > 0 && state.admitted[subject] == nil
            // Counted before it is recorded, so that no other one takes its place meanwhile.
            if isNew { state.admitted[subject] = now }
            return (answer, isNew, former)
        }
        if let news = answer.news { exceeded(news) }
        guard isNew else { return answer.time }
        do throws(StateFileError) {
            try await BlockingWork.run { [self] () -> Result<Void, StateFileError> in
                recording.withLock { _ in
                    do throws(StateFileError) { return .success(try record(state.withLock(\.admitted))) } catch {
                        return .failure(error)
                    }
                }
            }.get()
        } catch {
            state.withLock { state in
                state.admitted[subject] = nil
                state.waiting[subject] = former
            }
            throw error
        }
        return nil
    }

    /// A subject does not wait any more, for another reason.
    public func withdraw(_ subject: String) { state.withLock { _ = $0.waiting.removeValue(forKey: subject) } }

    /// How it stands.
    public var summary: Summary { state.withLock(\.summary) }

    // MARK: - The file

    private static let largestSize = 1 << 18

    /// - Returns: nil when the text is not one of ours.
    private static func admitted(in text: String) -> [String: WallTime]? {
        var admitted: [String: WallTime] = [:]
        for line in text.split(separator: "\n") {
            let words = line.split(separator: " ")
            guard words.count == 2, let seconds = Int64(words[0]) else { return nil }
            admitted[String(words[1])] = WallTime(secondsSince1970: seconds)
        }
        return admitted
    }

    private func record(_ admitted: [String: WallTime]) throws(StateFileError) {
        guard let file else { return }
        let lines = admitted.sorted { ($0.value, $0.key) < ($1.value, $1.key) }
            .map { "\($0.value.secondsSince1970) \($0.key)\n" }
        try StateFile.replace(file, with: lines.joined(), isDurable: true)
    }
}

extension HourlyLimit.State {
    /// - Returns: when a subject is to ask again, nil: it may be admitted now; and what is to be told.
    fileprivate mutating func wait(_ subject: String, now: WallTime) -> (time: WallTime?, news: HourlyLimit.Summary?) {
        guard limit > 0 else { return (nil, nil) }
        // Where the clock was set back, what was admitted later than now counts as admitted now.
        admitted = admitted.filter { now - $0.value < HourlyLimit.hour }.mapValues { min($0, now) }
        guard admitted[subject] == nil else { return (nil, nil) }
        let share = HourlyLimit.hour / limit
        if waiting.isEmpty { last = .distantPast }
        // No later time can have been given unless the clock was set back.
        let latest = now + HourlyLimit.hour + share * waiting.count
        if last > latest { last = now }
        if let time = waiting[subject], time > now, time <= latest { return (time, nil) }
        let hasRoom = admitted.count < limit
        // One whose time has come goes before those that come now.
        guard !hasRoom || waiting[subject] == nil && !waiting.isEmpty else { return (nil, nil) }
        let times = admitted.values.sorted()
        let opening = hasRoom ? now : times[times.count - limit] + HourlyLimit.hour
        last = max(opening, last + share)
        waiting[subject] = last
        guard told.map({ now - $0 >= HourlyLimit.hour || $0 > now }) ?? true else { return (last, nil) }
        told = now
        return (last, summary)
    }

    fileprivate var summary: HourlyLimit.Summary {
        var summary = HourlyLimit.Summary()
        (summary.limit, summary.count) = (limit, waiting.count)
        let first = waiting.sorted { ($0.value, $0.key) < ($1.value, $1.key) }.prefix(HourlyLimit.mostNamed)
        (summary.waiting, summary.next) = (first.map(\.key), first.first?.value)
        return summary
    }
}
