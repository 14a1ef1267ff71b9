import HeapModule

/// Who may begin: one job at a time for each subject, so many in each lane, so many in all; of those that wait the most urgent, then whoever asked first.
///
/// A pure state machine. At rest none of those that wait could begin, so whoever asks and finds room takes nobody's turn. A job costs no
/// more than the logarithm of how many wait, however many wait for the same subject: of those in one lane only the first is looked at.
struct AdmissionQueue<Payload: Sendable>: Sendable {
    /// A place in the order.
    struct Ticket: Hashable, Comparable, Sendable {
        let priority: Int
        let number: UInt64

        static func < (left: Self, right: Self) -> Bool {
            (left.priority, left.number) < (right.priority, right.number)
        }
    }

    /// What one that waits is waiting for.
    enum Obstacle: Hashable, Sendable {
        /// Another job works on the subject.
        case subject
        /// As many jobs run as may, in its lane or in all.
        case room
        /// The same, and more urgent ones of its lane wait as well.
        case moreUrgent
    }

    private struct Waiter {
        var lane: Int
        var subject: JobSubject
        var payload: Payload
    }

    private struct Lane {
        var slots: Int
        var running = 0
        /// Those that wait for room; also some whose subject has become busy since, and some that do not wait any more.
        var line = Heap<Ticket>()

        var hasRoom: Bool { running < slots }
    }

    /// The most jobs at once, of all lanes; nil: no limit.
    private(set) var limit: Int?
    private var lanes: [Lane] = []
    /// Which lane works on a subject.
    private var running: [JobSubject: Int] = [:]
    private var waiters: [Ticket: Waiter] = [:]
    /// By lane, those that wait for a subject.
    private var crowds: [JobSubject: [Int: Heap<Ticket>]] = [:]
    private var lastNumber: UInt64 = 0

    init(limit: Int?) { self.limit = limit }

    // MARK: - Asking

    /// - Parameter slots: the most jobs of the lane at once; less than 1 counts as 1.
    mutating func makeLane(slots: Int) -> Int {
        lanes.append(Lane(slots: max(1, slots)))
        return lanes.count - 1
    }

    /// - Returns: nil when the job has begun; else its place among those that wait.
    mutating func ask(_ subject: JobSubject, in lane: Int, priority: Int, _ payload: Payload) -> Ticket? {
        let isFree = running[subject] == nil
        if isFree, hasRoom, lanes[lane].hasRoom {
            begin(subject, in: lane)
            return nil
        }
        lastNumber += 1
        let ticket = Ticket(priority: priority, number: lastNumber)
        waiters[ticket] = Waiter(lane: lane, subject: subject, payload: payload)
        if isFree {
            lanes[lane].line.insert(ticket)
        } else {
            crowds[subject, default: [:]][lane, default: Heap()].insert(ticket)
        }
        return ticket
    }

    /// It does not wait any more.
    /// - Returns: false when it did not: it has begun.
    mutating func withdraw(_ ticket: Ticket) -> Bool {
        guard let waiter = waiters.removeValue(forKey: ticket) else { return false }
        // It may have been the one of its subject that was looked at.
        if running[waiter.subject] == nil { callFirst(of: waiter.subject, in: waiter.lane) }
        return true
    }

    /// What stands in the way just now; nil when it does not wait.
    mutating func obstacle(of ticket: Ticket) -> Obstacle? {
        guard let waiter = waiters[ticket] else { return nil }
        if running[waiter.subject] != nil { return .subject }
        return first(in: waiter.lane).map { $0.priority < ticket.priority } ?? false ? .moreUrgent : .room
    }

    // MARK: - Making room
    // Each returns those that begin by it, in their order.

    /// The job on a subject has ended.
    mutating func leave(_ subject: JobSubject) -> [Payload] {
        guard let lane = running.removeValue(forKey: subject) else { return [] }
        lanes[lane].running -= 1
        for lane in crowds[subject, default: [:]].keys { callFirst(of: subject, in: lane) }
        return beginAll()
    }

    mutating func setLimit(_ limit: Int?) -> [Payload] {
        self.limit = limit
        return beginAll()
    }

    mutating func setSlots(_ slots: Int, of lane: Int) -> [Payload] {
        lanes[lane].slots = max(1, slots)
        return beginAll()
    }

    private mutating func beginAll() -> [Payload] {
        var begun: [Payload] = []
        while hasRoom {
            let next = lanes.indices.filter { lanes[$0].hasRoom }.compactMap { first(in: $0) }.min()
            guard let next, let waiter = waiters.removeValue(forKey: next) else { break }
            lanes[waiter.lane].line.removeMin()
            begin(waiter.subject, in: waiter.lane)
            begun.append(waiter.payload)
        }
        return begun
    }

    private var hasRoom: Bool { limit.map { running.count < $0 } ?? true }

    private mutating func begin(_ subject: JobSubject, in lane: Int) {
        running[subject] = lane
        lanes[lane].running += 1
    }

    /// The first of a lane that waits for nothing but room. Heaps cannot forget, so others are put where they belong when they come up.
    private mutating func first(in lane: Int) -> Ticket? {
        while let ticket = lanes[lane].line.min {
            guard let waiter = waiters[ticket] else {
                lanes[lane].line.removeMin()
                continue
            }
            guard running[waiter.subject] != nil else { return ticket }
            lanes[lane].line.removeMin()
            crowds[waiter.subject, default: [:]][lane, default: Heap()].insert(ticket)
        }
        return nil
    }

    /// The first of a lane that waited for a subject waits for room now.
    private mutating func callFirst(of subject: JobSubject, in lane: Int) {
        while let ticket = crowds[subject]?[lane]?.popMin() {
            guard waiters[ticket] != nil else { continue }
            lanes[lane].line.insert(ticket)
            break
        }
        if crowds[subject]?[lane]?.isEmpty ?? false { crowds[subject]?[lane] = nil }
        if crowds[subject]?.isEmpty ?? false { crowds[subject] = nil }
    }
}
