import EventLoop
import Synchronization
public import SystemPackage

/// Limits how many different subjects are admitted within an hour, also across restarts: a guard against a mistake
/// that would otherwise be carried out for all of them at once.
///
/// The subjects of the last hour are in a small file, which is flushed to disk before a subject is admitted. A
/// subject that is admitted again within the hour, for example after a failure, counts once. Subjects that have to
/// wait get increasing retry times, so that none overtakes another. The limit uses the wall clock: setting the clock
/// forward by an hour admits one more hour's worth.
public final class HourlyLimit: Sendable {
    /// The subjects that wait.
    public struct Summary: Hashable, Sendable, Codable {
        /// How many wait.
        public var count: Int
        /// Subjects per hour.
        public var limit: Int
        /// When the first of them may be admitted.
        public var next: Timestamp
        /// The first in the order of their times; at most ``HourlyLimit/mostNamed``.
        public var subjects: [String]

        private enum CodingKeys: String, CodingKey {
            case count, limit, next
            // The name in the JSON must not change.
            case subjects = "accounts"
        }
    }

    fileprivate struct State {
        var limit: Int
        /// Admitted within the last hour or a little longer ago.
        var admitted: [String: Timestamp]
        /// Not admitted, and when each may ask again.
        var waiting: [String: Timestamp] = [:]
        /// The latest time that was given to a waiting subject.
        var last = Timestamp.distantPast
        /// When `exceeded` was last called.
        var reported: Timestamp?
    }

    /// The largest limit; it keeps the file small.
    public static let largest = 1_000
    /// The most subjects in a summary.
    public static let mostNamed = 1_000
    fileprivate static let hour = Duration.seconds(3_600)

    /// A message for the operator if a damaged file was set aside.
    public let notice: String?
    private let file: FilePath?
    private let limit: @Sendable () -> Int
    private let exceeded: @Sendable (Summary) -> Void
    private let state: Mutex<State>
    /// Held while the file is written.
    private let recording = Mutex(())

    /// - Parameters:
    ///   - file: in an existing directory; nil: the state is lost when the process ends.
    ///   - limit: subjects per hour (1…``largest``); 0: no limit. Read each time; after a change, waiting subjects have to ask again.
    ///   - exceeded: called when a subject has to wait, at most once an hour.
    /// - Throws: ``StateFileError`` if the file cannot be read or set aside.
    public init(
        file: FilePath?, limit: @escaping @Sendable () -> Int, now: Timestamp = SystemWallClock().now,
        exceeded: @escaping @Sendable (Summary) -> Void = { _ in }
    ) throws(StateFileError) {
        self.file = file
        self.limit = limit
        self.exceeded = exceeded
        let contents =
            try file.map { file throws(StateFileError) in
                try StateFile.read(file, atMost: Self.largestSize) ?? []
            } ?? []
        if let admitted = Self.admitted(in: String(decoding: contents, as: UTF8.self)) {
            notice = nil
            state = Mutex(State(limit: limit(), admitted: admitted))
        } else {
            let aside = try file.map { file throws(StateFileError) in
                try StateFile.setAside(file, at: Int(now.secondsSince1970))
            }
            notice =
                "\(file?.printable ?? ""): is damaged; it was set aside as \(aside?.printable ?? ""), and admissions of the last hour are not counted"
            state = Mutex(State(limit: limit(), admitted: [:]))
        }
    }

    /// No limit; nothing is recorded.
    public init() {
        (file, notice, limit, exceeded) = (nil, nil, { 0 }, { _ in })
        state = Mutex(State(limit: 0, admitted: [:]))
    }

    private func withState<Value>(_ body: (inout State) -> Value) -> Value {
        let limit = limit()
        return state.withLock { state in
            if state.limit != limit { state = State(limit: limit, admitted: state.admitted) }
            return body(&state)
        }
    }

    /// Whether a subject has to wait.
    /// - Returns: when to ask again; nil: it would be admitted now.
    public func wait(_ subject: String, now: Timestamp) -> Timestamp? {
        let (time, summary) = withState { $0.wait(subject, now: now) }
        if let summary { exceeded(summary) }
        return time
    }

    /// Admits a subject unless the limit is reached.
    /// - Parameters:
    ///   - subject: printable, without blanks.
    ///   - isUrgent: an operator asked for it: it is always admitted, and counted.
    /// - Returns: when to ask again; nil: the subject is admitted.
    /// - Throws: ``StateFileError`` if the admission cannot be recorded; then the subject is not admitted.
    public func admit(
        _ subject: String, now: Timestamp, isUrgent: Bool = false
    ) async throws(StateFileError) -> Timestamp? {
        let (answer, isNew, former) = withState { state in
            let answer = isUrgent ? (time: nil, summary: nil) : state.wait(subject, now: now)
            guard answer.time == nil else { return (answer, false, nil as Timestamp?) }
            let former = state.waiting.removeValue(forKey: subject)
            let isNew = state.limit > 0 && state.admitted[subject] == nil
            // Count it before it is recorded, so that no other subject takes its place meanwhile.
            if isNew { state.admitted[subject] = now }
            return (answer, isNew, former)
        }
        if let summary = answer.summary { exceeded(summary) }
        guard isNew else { return answer.time }
        do throws(StateFileError) {
            try await BlockingWork.run { [self] () throws(StateFileError) in
                try recording.withLock { _ throws(StateFileError) in try record(state.withLock(\.admitted)) }
            }
        } catch {
            state.withLock { state in
                state.admitted[subject] = nil
                state.waiting[subject] = former
            }
            throw error
        }
        return nil
    }

    /// Removes a waiting subject.
    public func withdraw(_ subject: String) { state.withLock { _ = $0.waiting.removeValue(forKey: subject) } }

    /// The subjects that wait; nil: none does.
    public var summary: Summary? { withState(\.summary) }

    // MARK: - The file

    private static let largestSize = 1 << 18

    /// - Returns: nil if the text is not in the file's format.
    private static func admitted(in text: String) -> [String: Timestamp]? {
        var admitted: [String: Timestamp] = [:]
        for line in text.split(separator: "\n") {
            let words = line.split(separator: " ")
            guard words.count == 2, let seconds = Int64(words[0]) else { return nil }
            admitted[String(words[1])] = Timestamp(secondsSince1970: seconds)
        }
        return admitted
    }

    private func record(_ admitted: [String: Timestamp]) throws(StateFileError) {
        guard let file else { return }
        let lines = admitted.sorted { ($0.value, $0.key) < ($1.value, $1.key) }
            .map { "\($0.value.secondsSince1970) \($0.key)\n" }
        try StateFile.replace(file, with: lines.joined(), isDurable: true)
    }
}

extension HourlyLimit.State {
    /// - Returns: when the subject may ask again (nil: it may be admitted now), and the summary to report, if any.
    fileprivate mutating func wait(_ subject: String, now: Timestamp) -> (
        time: Timestamp?, summary: HourlyLimit.Summary?
    ) {
        guard limit > 0 else { return (nil, nil) }
        // After the clock was set back, an admission in the future counts as one of now.
        admitted = admitted.filter { now - $0.value < HourlyLimit.hour }.mapValues { min($0, now) }
        guard admitted[subject] == nil else { return (nil, nil) }
        let share = HourlyLimit.hour / limit
        if waiting.isEmpty { last = .distantPast }
        // Later times exist only if the clock was set back.
        let latest = now + HourlyLimit.hour + share * waiting.count
        if last > latest { last = now }
        if let time = waiting[subject], time > now, time <= latest { return (time, nil) }
        let hasRoom = admitted.count < limit
        // A subject whose time has come goes before a new one.
        guard !hasRoom || waiting[subject] == nil && !waiting.isEmpty else { return (nil, nil) }
        let times = admitted.values.sorted()
        let opening = hasRoom ? now : times[times.count - limit] + HourlyLimit.hour
        last = max(opening, last + share)
        waiting[subject] = last
        guard reported.map({ now - $0 >= HourlyLimit.hour || $0 > now }) ?? true else { return (last, nil) }
        reported = now
        return (last, summary)
    }

    fileprivate var summary: HourlyLimit.Summary? {
        let first = waiting.sorted { ($0.value, $0.key) < ($1.value, $1.key) }.prefix(HourlyLimit.mostNamed)
        return first.first.map {
            HourlyLimit.Summary(count: waiting.count, limit: limit, next: $0.value, subjects: first.map(\.key))
        }
    }
}
