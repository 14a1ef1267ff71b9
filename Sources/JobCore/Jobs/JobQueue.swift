import HeapModule

/// Whose turn has come: due times, priorities, and one turn at a time for each subject.
///
/// A pure state machine: the caller tells it what happened and asks whose turn it is; it keeps no clock and runs nothing. How many run at once is
/// for ``JobAdmission``. Offering a subject again is always safe. While it waits, the earlier due time holds; while it has its turn, the offer is
/// remembered, and the subject waits again as soon as its turn ends.
///
/// It is made for a great many that wait: each takes little more than a hundred bytes, which are given back when nobody is left.
public struct JobQueue<Subject: Hashable & Sendable>: Sendable {
    private enum State: Sendable {
        /// A subject that was once found to be due is so for good, from the distant past on.
        case waiting(ticket: UInt64, due: WallTime, priority: Int32)
        case running(offeredAgain: Bool)
    }

    /// A place in one of the two orders; the smaller rank goes first, then the smaller ticket.
    private struct Place: Comparable, Sendable {
        /// Nanoseconds of the due time, or the priority of one that is due.
        var rank: Int64
        var ticket: UInt64
        var subject: Subject

        static func == (left: Self, right: Self) -> Bool { left.ticket == right.ticket }
        static func < (left: Self, right: Self) -> Bool { (left.rank, left.ticket) < (right.rank, right.ticket) }
    }

    private var states: [Subject: State] = [:]
    private var later = Heap<Place>()
    private var ready = Heap<Place>()
    private var lastTicket: UInt64 = 0
    /// Subjects that have their turn now.
    public private(set) var runningCount = 0
    /// Subjects that wait and are due, as far as ``start(now:priority:)`` has looked.
    public private(set) var dueCount = 0

    /// An empty one.
    public init() {}

    /// Subjects that wait, due or not.
    public var waitingCount: Int { states.count - runningCount }

    /// - Parameters:
    ///   - due: the earliest time at which it may start.
    ///   - priority: 1 is more urgent than 10.
    public mutating func offer(_ subject: Subject, due: WallTime, priority: Int = 10) {
        let priority = Int32(clamping: priority)
        switch states[subject] {
        case .running:
            states[subject] = .running(offeredAgain: true)
        case .waiting(_, let earlier, let urgent):
            guard due < earlier || priority < urgent else { return }
            if earlier == .distantPast { dueCount -= 1 }
            enqueue(subject, due: min(due, earlier), priority: min(urgent, priority))
        case nil:
            enqueue(subject, due: due, priority: priority)
        }
    }

    /// The next subject that is due at `now`, which then has its turn; nil when none is.
    /// - Parameter priority: only one that is as urgent as that; the others go on waiting.
    public mutating func start(now: WallTime, priority: Int = .max) -> Subject? {
        while let first = later.min, first.rank <= now.nanosecondsSince1970 || !isCurrent(first) {
            later.removeMin()
            // It takes its place behind those that were found before, so that nobody who comes later goes first.
            if case .waiting(first.ticket, _, let priority) = states[first.subject] {
                enqueue(first.subject, due: .distantPast, priority: priority)
            }
        }
        while let first = ready.min, !isCurrent(first) { ready.removeMin() }
        guard let next = ready.min, next.rank <= priority else { return nil }
        ready.removeMin()
        states[next.subject] = .running(offeredAgain: false)
        dueCount -= 1
        runningCount += 1
        return next.subject
    }

    /// A subject's turn really begins only now: what was offered until now is no reason for another.
    public mutating func forgetOffers(of subject: Subject) {
        if case .running = states[subject] { states[subject] = .running(offeredAgain: false) }
    }

    /// A subject's turn has ended.
    /// - Parameters:
    ///   - again: when it must have another in any case; nil when it need not.
    ///   - ignoringOffers: whether offers made during its turn said nothing new.
    /// - Returns: when it is due again; nil when it does not wait any more.
    @discardableResult
    public mutating func finish(
        _ subject: Subject, again: WallTime? = nil, ignoringOffers: Bool = false
    ) -> WallTime? {
        guard case .running(let offeredAgain) = states.removeValue(forKey: subject) else { return nil }
        runningCount -= 1
        let due = offeredAgain && !ignoringOffers ? .distantPast : again
        if let due { enqueue(subject, due: due, priority: 10) } else if states.isEmpty { giveBack() }
        return due
    }

    /// When the next of those that are not due yet becomes so; nil when there is none.
    public mutating func nextDue() -> WallTime? {
        while let first = later.min, !isCurrent(first) { later.removeMin() }
        return later.min.map { WallTime(nanosecondsSince1970: $0.rank) }
    }

    /// The clock was set back: what is not due yet comes so much earlier by it. What was to wait for a duration waits as long as before; what was
    /// to wait for a day comes up early, and has to be offered again.
    public mutating func clockWasSet(back duration: Duration) {
        for (subject, state) in states {
            guard case .waiting(let ticket, let due, let priority) = state, due > .distantPast else { continue }
            states[subject] = .waiting(ticket: ticket, due: due + (.zero - duration), priority: priority)
        }
        later = Heap(
            later.unordered.filter(isCurrent).map { place in
                var place = place
                place.rank = (WallTime(nanosecondsSince1970: place.rank) + (.zero - duration)).nanosecondsSince1970
                return place
            })
    }

    /// Whether the subject waits, due or not.
    public func isWaiting(_ subject: Subject) -> Bool {
        if case .waiting = states[subject] { true } else { false }
    }

    private mutating func enqueue(_ subject: Subject, due: WallTime, priority: Int32) {
        lastTicket += 1
        states[subject] = .waiting(ticket: lastTicket, due: due, priority: priority)
        if due == .distantPast {
            dueCount += 1
            ready.insert(Place(rank: Int64(priority), ticket: lastTicket, subject: subject))
        } else {
            later.insert(Place(rank: due.nanosecondsSince1970, ticket: lastTicket, subject: subject))
            // What waits for a far day and is looked at now and then would leave place after place behind.
            if later.count > 2 * states.count + 64 { later = Heap(later.unordered.filter(isCurrent)) }
        }
    }

    /// Heaps cannot forget: what was offered anew leaves its old place behind, told by the ticket.
    private func isCurrent(_ place: Place) -> Bool {
        if case .waiting(place.ticket, _, _) = states[place.subject] { true } else { false }
    }

    private mutating func giveBack() {
        states = [:]
        later = Heap()
        ready = Heap()
    }
}
