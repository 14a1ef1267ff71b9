import HeapModule

/// Whose turn has come: due times, priorities, and one turn at a time for each subject.
///
/// A pure state machine: the caller tells it what happened and asks whose turn it is; it keeps no clock and runs nothing. How many run at once is
/// for ``JobAdmission``. Offering a subject again is always safe. While it waits, the earlier due time holds; while it has its turn, the offer is
/// remembered, and the subject waits again as soon as its turn ends.
public struct JobQueue<Subject: Hashable & Sendable>: Sendable {
    private enum State: Sendable {
        case waiting(ticket: UInt64, due: WallTime, priority: Int)
        case running(offeredAgain: Bool)
    }

    private struct Waiting: Comparable, Sendable {
        var due: WallTime
        var priority: Int
        var ticket: UInt64
        var subject: Subject

        static func == (left: Self, right: Self) -> Bool { left.ticket == right.ticket }
        static func < (left: Self, right: Self) -> Bool { (left.due, left.ticket) < (right.due, right.ticket) }
    }

    /// A due subject; the smaller number is the more urgent, as in Bacula.
    private struct Ready: Comparable, Sendable {
        var waiting: Waiting
        /// In which order they were found to be due, so that nobody who comes later goes first.
        var order: UInt64

        static func == (left: Self, right: Self) -> Bool { left.waiting == right.waiting }
        static func < (left: Self, right: Self) -> Bool {
            (left.waiting.priority, left.order) < (right.waiting.priority, right.order)
        }
    }

    private var states: [Subject: State] = [:]
    private var later = Heap<Waiting>()
    private var ready = Heap<Ready>()
    private var nextTicket: UInt64 = 0
    private var found: UInt64 = 0
    /// Subjects that have their turn now.
    public private(set) var runningCount = 0

    /// An empty one.
    public init() {}

    /// Subjects that wait, due or not.
    public var waitingCount: Int { states.count - runningCount }

    /// - Parameters:
    ///   - due: the earliest time at which it may start.
    ///   - priority: 1 is more urgent than 10.
    public mutating func offer(_ subject: Subject, due: WallTime, priority: Int = 10) {
        switch states[subject] {
        case .running:
            states[subject] = .running(offeredAgain: true)
        case .waiting(_, let earlier, let urgent) where earlier <= due && urgent <= priority:
            break
        case .waiting(_, let earlier, let urgent):
            enqueue(subject, due: min(due, earlier), priority: min(urgent, priority))
        case nil:
            enqueue(subject, due: due, priority: priority)
        }
    }

    /// The next subject that is due at `now`, which then has its turn; nil when none is.
    public mutating func start(now: WallTime) -> Subject? {
        while let first = later.min, first.due <= now || !isCurrent(first) {
            later.removeMin()
            guard isCurrent(first) else { continue }
            found += 1
            ready.insert(Ready(waiting: first, order: found))
        }
        while let next = ready.popMin() {
            guard isCurrent(next.waiting) else { continue }
            states[next.waiting.subject] = .running(offeredAgain: false)
            runningCount += 1
            return next.waiting.subject
        }
        return nil
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
        if let due { enqueue(subject, due: due, priority: 10) }
        return due
    }

    /// When the next waiting subject becomes due; nil when none waits.
    public mutating func nextDue() -> WallTime? {
        while let first = ready.min, !isCurrent(first.waiting) { ready.removeMin() }
        while let first = later.min, !isCurrent(first) { later.removeMin() }
        return switch (ready.min?.waiting.due, later.min?.due) {
        case (let one?, let other?): min(one, other)
        case (let one, let other): one ?? other
        }
    }

    /// Whether the subject waits, due or not.
    public func isWaiting(_ subject: Subject) -> Bool {
        if case .waiting = states[subject] { true } else { false }
    }

    private mutating func enqueue(_ subject: Subject, due: WallTime, priority: Int) {
        nextTicket += 1
        states[subject] = .waiting(ticket: nextTicket, due: due, priority: priority)
        later.insert(Waiting(due: due, priority: priority, ticket: nextTicket, subject: subject))
    }

    /// Heaps cannot forget: what was offered anew leaves its old place behind, told by the ticket.
    private func isCurrent(_ waiting: Waiting) -> Bool {
        if case .waiting(waiting.ticket, _, _) = states[waiting.subject] { true } else { false }
    }
}
