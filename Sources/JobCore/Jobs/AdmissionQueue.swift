import HeapModule

/// Who may begin: one job at a time for each subject, so many in each lane, so many in all; of those that wait the most urgent, then whoever asked first.
///
/// Jobs that wait for the same subject have an order of their own, their rank: of those in one lane the smallest rank begins first and takes the
/// earliest place of them, in exchange for its own, so that other subjects lose nothing by it. None begins while one of a smaller rank waits in
/// another lane.
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
        /// In the order of its lane; another's after an exchange.
        var place: Ticket
        var payload: Payload
    }

    /// A place in the order within one subject.
    private struct Rank: Comparable {
        var rank: Int
        var ticket: Ticket

        static func < (left: Self, right: Self) -> Bool { (left.rank, left.ticket) < (right.rank, right.ticket) }
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
    /// Places that are not held by the waiter who was given them.
    private var holders: [Ticket: Ticket] = [:]
    /// By lane, the places of those that wait for a subject.
    private var crowds: [JobSubject: [Int: Heap<Ticket>]] = [:]
    /// By lane, all that wait for a subject, in its own order; also some that do not wait any more.
    private var ranks: [JobSubject: [Int: Heap<Rank>]] = [:]
    private var lastNumber: UInt64 = 0

    init(limit: Int?) { self.limit = limit }

    // MARK: - Asking

    /// - Parameter slots: the most jobs of the lane at once; less than 1 counts as 1.
    mutating func makeLane(slots: Int) -> Int {
        lanes.append(Lane(slots: max(1, slots)))
        return lanes.count - 1
    }

    /// - Parameter rank: of jobs that wait for the same subject the smallest begins first.
    /// - Returns: nil when the job has begun; else its place among those that wait.
    mutating func ask(
        _ subject: JobSubject, in lane: Int, priority: Int, rank: Int = 0, _ payload: Payload
    ) -> Ticket? {
        let isFree = running[subject] == nil
        if isFree, hasRoom, lanes[lane].hasRoom, !isPreceded(subject, in: lane, rank) {
            begin(subject, in: lane)
            return nil
        }
        lastNumber += 1
        let ticket = Ticket(priority: priority, number: lastNumber)
        waiters[ticket] = Waiter(lane: lane, subject: subject, place: ticket, payload: payload)
        ranks[subject, default: [:]][lane, default: Heap()].insert(Rank(rank: rank, ticket: ticket))
        insert(ticket, of: subject, in: lane)
        return ticket
    }

    /// One that waits becomes as urgent as that, behind those that are as urgent already. It does not begin by it.
    mutating func hasten(_ ticket: Ticket, to priority: Int) {
        guard var waiter = waiters[ticket], priority < waiter.place.priority else { return }
        lastNumber += 1
        holders[waiter.place] = nil
        waiter.place = Ticket(priority: priority, number: lastNumber)
        holders[waiter.place] = ticket
        waiters[ticket] = waiter
        insert(waiter.place, of: waiter.subject, in: waiter.lane)
    }

    private mutating func insert(_ place: Ticket, of subject: JobSubject, in lane: Int) {
        if running[subject] == nil {
            lanes[lane].line.insert(place)
        } else {
            crowds[subject, default: [:]][lane, default: Heap()].insert(place)
        }
    }

    /// Who waits in a place; nil when nobody does any more.
    private func waiter(at place: Ticket) -> Waiter? {
        guard let waiter = waiters[holders[place] ?? place], waiter.place == place else { return nil }
        return waiter
    }

    /// It does not wait any more.
    /// - Returns: those that begin because it does not go before them any more; nil when it did not wait: it has begun.
    mutating func withdraw(_ ticket: Ticket) -> [Payload]? {
        guard let waiter = waiters.removeValue(forKey: ticket) else { return nil }
        holders[waiter.place] = nil
        _ = firstRank(of: waiter.subject, in: waiter.lane)
        guard running[waiter.subject] == nil else { return [] }
        // It may have been the one of its subject that was looked at.
        for lane in lanes.indices { callFirst(of: waiter.subject, in: lane) }
        return beginAll()
    }

    /// Which lane works on a subject just now; nil: none.
    func lane(workingOn subject: JobSubject) -> Int? { running[subject] }

    /// What stands in the way just now; nil when it does not wait.
    mutating func obstacle(of ticket: Ticket) -> Obstacle? {
        guard let waiter = waiters[ticket] else { return nil }
        if running[waiter.subject] != nil { return .subject }
        if let own = firstRank(of: waiter.subject, in: waiter.lane),
            isPreceded(waiter.subject, in: waiter.lane, own.rank)
        {
            return .subject
        }
        return first(in: waiter.lane).map { $0.priority < waiter.place.priority } ?? false ? .moreUrgent : .room
    }

    // MARK: - Making room
    // Each returns those that begin by it, in their order.

    /// The job on a subject has ended.
    mutating func leave(_ subject: JobSubject) -> [Payload] {
        guard let lane = running.removeValue(forKey: subject) else { return [] }
        lanes[lane].running -= 1
        for lane in lanes.indices { callFirst(of: subject, in: lane) }
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
            let place = lanes.indices.filter { lanes[$0].hasRoom }.compactMap { first(in: $0) }.min()
            guard let place, let payload = beginFirst(at: place) else { break }
            begun.append(payload)
        }
        return begun
    }

    /// The first of the subject and lane of a place that has come up begins there; who held it has the other's place from now on.
    private mutating func beginFirst(at place: Ticket) -> Payload? {
        guard let holder = waiter(at: place), let first = firstRank(of: holder.subject, in: holder.lane)?.ticket,
            let begun = waiters.removeValue(forKey: first)
        else { return nil }
        lanes[begun.lane].line.removeMin()
        let old = holders.removeValue(forKey: place) ?? place
        if old != first {
            waiters[old]?.place = begun.place
            holders[begun.place] = begun.place == old ? nil : old
        }
        _ = firstRank(of: begun.subject, in: begun.lane)
        begin(begun.subject, in: begun.lane)
        return begun.payload
    }

    /// The one of a lane that begins first of those that wait for a subject. Heaps cannot forget, so those that do not wait are removed here.
    private mutating func firstRank(of subject: JobSubject, in lane: Int) -> Rank? {
        while let first = ranks[subject]?[lane]?.min {
            if waiters[first.ticket] != nil { return first }
            ranks[subject]?[lane]?.removeMin()
        }
        ranks[subject]?[lane] = nil
        if ranks[subject]?.isEmpty ?? false { ranks[subject] = nil }
        return nil
    }

    /// Whether one of a smaller rank waits for the subject in another lane.
    private mutating func isPreceded(_ subject: JobSubject, in lane: Int, _ rank: Int) -> Bool {
        for other in lanes.indices where other != lane {
            if let first = firstRank(of: subject, in: other), first.rank < rank { return true }
        }
        return false
    }

    private var hasRoom: Bool { limit.map { running.count < $0 } ?? true }

    private mutating func begin(_ subject: JobSubject, in lane: Int) {
        running[subject] = lane
        lanes[lane].running += 1
    }

    /// The first place of a lane whose subject waits for nothing but room. Heaps cannot forget, so others are put where they belong when they come up.
    private mutating func first(in lane: Int) -> Ticket? {
        while let place = lanes[lane].line.min {
            guard let waiter = waiter(at: place) else {
                lanes[lane].line.removeMin()
                continue
            }
            if running[waiter.subject] == nil, let own = firstRank(of: waiter.subject, in: lane),
                !isPreceded(waiter.subject, in: lane, own.rank)
            {
                return place
            }
            lanes[lane].line.removeMin()
            crowds[waiter.subject, default: [:]][lane, default: Heap()].insert(place)
        }
        return nil
    }

    /// The first of a lane that waited for a subject waits for room now.
    private mutating func callFirst(of subject: JobSubject, in lane: Int) {
        while let place = crowds[subject]?[lane]?.popMin() {
            guard waiter(at: place) != nil else { continue }
            lanes[lane].line.insert(place)
            break
        }
        if crowds[subject]?[lane]?.isEmpty ?? false { crowds[subject]?[lane] = nil }
        if crowds[subject]?.isEmpty ?? false { crowds[subject] = nil }
    }
}
