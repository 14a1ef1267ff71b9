import TestSupport
import Testing

@testable import JobCore

/// What ``Scheduler`` does, without any bookkeeping: every question looks at all items.
struct SchedulerModel {
    struct Item {
        var key: Int
        var exclusions: [Int]
        var jobClass: Int
        var rank: Int
        var due: Timestamp
        var priority: Int
        var number = 0
        var isDue = false
        var line: Int?
        var isRunning = false
        var isOffered = false

        var place: [Int] { [priority, number] }
    }

    var items: [Int: Item] = [:]
    var limits: [Int]
    var limit: Int
    private var lastNumber = 0

    init(limits: [Int], limit: Int) { (self.limits, self.limit) = (limits, limit) }

    private static func isBefore(_ left: [Int], _ right: [Int]) -> Bool { left.lexicographicallyPrecedes(right) }

    private func holder(_ exclusion: Int) -> Int? {
        items.values.first { $0.isRunning && $0.exclusions.contains(exclusion) }?.key
    }

    private func members(_ line: Int) -> [Item] {
        items.values.filter { $0.line == line }.sorted { Self.isBefore([$0.rank] + $0.place, [$1.rank] + $1.place) }
    }

    private mutating func enqueue(_ item: Item) {
        var item = item
        lastNumber += 1
        item.number = lastNumber
        item.isDue = item.due == .distantPast
        item.isRunning = false
        item.isOffered = false
        item.line = nil
        items[item.key] = item
        if item.isDue { wait(item.key) }
    }

    private mutating func wait(_ key: Int) {
        guard let item = items[key] else { return }
        let line = item.exclusions.first { holder($0) != nil } ?? item.exclusions[0]
        items[key]?.line = line
        let mates = members(line).filter { $0.jobClass == item.jobClass }
        let places = mates.map(\.place).sorted(by: Self.isBefore)
        for (mate, place) in zip(mates, places) {
            items[mate.key]?.priority = place[0]
            items[mate.key]?.number = place[1]
        }
    }

    mutating func offer(_ key: Int, on exclusion: Int, class jobClass: Int, priority: Int, rank: Int, due: Timestamp) {
        guard var item = items[key] else {
            return enqueue(
                Item(
                    key: key, exclusions: [exclusion], jobClass: jobClass, rank: rank, due: due, priority: priority))
        }
        if item.isRunning {
            items[key]?.isOffered = true
        } else if due < item.due || priority < item.priority {
            item.due = min(due, item.due)
            item.priority = min(priority, item.priority)
            enqueue(item)
        }
    }

    mutating func next(now: Timestamp) -> Int? {
        for item in items.values.filter({ !$0.isDue && !$0.isRunning && $0.due <= now }).sorted(by: {
            ($0.due, $0.number) < ($1.due, $1.number)
        }) {
            var item = item
            item.due = .distantPast
            enqueue(item)
        }
        while true {
            let running = items.values.filter(\.isRunning)
            guard running.count < limit else { return nil }
            let candidates = items.values.filter { item in
                guard let line = item.line, holder(line) == nil else { return false }
                return members(line).first?.key == item.key
                    && running.count { $0.jobClass == item.jobClass } < limits[item.jobClass]
            }
            guard let first = candidates.min(by: { Self.isBefore($0.place, $1.place) }) else { return nil }
            if first.exclusions.contains(where: { holder($0) != nil }) {
                items[first.key]?.line = nil
                wait(first.key)
            } else {
                items[first.key]?.line = nil
                items[first.key]?.isRunning = true
                return first.key
            }
        }
    }

    mutating func acquire(_ exclusions: [Int], for key: Int) -> Bool {
        guard exclusions.allSatisfy({ (holder($0) ?? key) == key }) else { return false }
        for exclusion in exclusions where items[key]?.exclusions.contains(exclusion) == false {
            items[key]?.exclusions.append(exclusion)
        }
        return true
    }

    mutating func finish(_ key: Int, again: Timestamp?) -> Timestamp? {
        guard var item = items.removeValue(forKey: key) else { return nil }
        guard let due = item.isOffered ? .distantPast : again else { return nil }
        item.exclusions = [item.exclusions[0]]
        (item.due, item.priority) = (due, 10)
        enqueue(item)
        return due
    }

    mutating func finish(_ key: Int, waitingFor exclusions: [Int]) {
        guard var item = items.removeValue(forKey: key) else { return }
        item.exclusions = [item.exclusions[0]] + exclusions
        item.due = .distantPast
        enqueue(item)
    }
}

/// The scheduler and its model, side by side.
struct SchedulerWalk {
    private var generator: SeededGenerator
    private var scheduler: Scheduler
    private var model: SchedulerModel
    private var now = Timestamp(secondsSince1970: 1_800_000_000)
    private static let limits = [2, 4, 3]
    private static let exclusions = 9

    init(seed: UInt64) {
        generator = SeededGenerator(seed: seed)
        scheduler = Scheduler(limit: 5)
        for limit in Self.limits { _ = scheduler.addClass(JobClass(limit: limit)) }
        model = SchedulerModel(limits: Self.limits, limit: 5)
    }

    /// The first keys are subjects that are reconciled, the others jobs on them.
    private static func isSubject(_ key: Int) -> Bool { key < exclusions }
    private static func name(_ key: Int) -> Scheduler.Key {
        isSubject(key) ? .subject(subject(key)) : .job(JobID(UInt64(key)))
    }
    private static func subject(_ exclusion: Int) -> JobSubject { JobSubject("\(exclusion)") }

    private mutating func random(_ range: Range<Int>) -> Int { Int.random(in: range, using: &generator) }

    private var running: [Int] { model.items.values.filter(\.isRunning).map(\.key).sorted() }

    mutating func step(_ step: Int) throws {
        switch random(0..<10) {
        case 0...3: offer()
        case 4:
            let key = random(0..<60)
            let isWithdrawn = scheduler.withdraw(Self.name(key))
            try #require(isWithdrawn == model.items[key].map { !$0.isRunning } ?? false, "step \(step)")
            if isWithdrawn { model.items[key] = nil }
        case 5: now = now + .seconds(random(0..<5))
        case 6: if let key = running.randomElement(using: &generator) { try acquire(key, step) }
        default: if let key = running.randomElement(using: &generator) { try finish(key, step) }
        }
        try beginAll(step)
    }

    private mutating func offer() {
        let key = random(0..<60)
        // What belongs to a key does not change.
        let isSubject = Self.isSubject(key)
        let (exclusion, jobClass, rank) = (key % Self.exclusions, key % 3, isSubject ? 0 : 1 + key / 3 % 4)
        let priority = random(1..<12)
        let due = Bool.random(using: &generator) ? .distantPast : now + .seconds(random(-2..<8))
        scheduler.offer(
            isSubject
                ? Scheduler.Item(
                    reconciling: Self.subject(exclusion), class: jobClass, priority: priority, due: due)
                : Scheduler.Item(
                    job: JobID(UInt64(key)), on: Self.subject(exclusion), class: jobClass, priority: priority,
                    rank: rank, due: due))
        model.offer(key, on: exclusion, class: jobClass, priority: priority, rank: rank, due: due)
    }

    private mutating func acquire(_ key: Int, _ step: Int) throws {
        let wanted = Array(Set([random(0..<Self.exclusions), Self.exclusions + random(0..<3)])).sorted()
        let isTaken = scheduler.acquire(wanted.map(Self.subject), for: Self.name(key))
        let isExpected = model.acquire(wanted, for: key)
        try #require(isTaken == isExpected, "step \(step)")
        guard !isTaken else { return }
        scheduler.finish(Self.name(key), waitingFor: wanted.map(Self.subject))
        model.finish(key, waitingFor: wanted)
    }

    private mutating func finish(_ key: Int, _ step: Int) throws {
        let again: Timestamp? =
            switch random(0..<4) {
            case 0: now + .seconds(random(0..<6))
            case 1: .distantPast
            default: nil
            }
        let (due, expected) = (scheduler.finish(Self.name(key), again: again), model.finish(key, again: again))
        try #require(due == expected, "step \(step)")
    }

    private mutating func beginAll(_ step: Int) throws {
        while true {
            let (key, expected) = (scheduler.next(now: now), model.next(now: now).map(Self.name))
            try #require(key == expected, "step \(step)")
            guard key != nil else { break }
        }
        let running = model.items.values.filter(\.isRunning)
        try #require(scheduler.runningCount == running.count, "step \(step)")
        for index in Self.limits.indices {
            let items = model.items.values.filter { $0.jobClass == index && !$0.isRunning }
            try #require(scheduler.dueCount(of: index) == items.count { $0.line != nil }, "step \(step)")
            let waiting = scheduler.waitingCount(of: index)
            try #require(waiting == items.count, "step \(step)")
            let next = scheduler.nextDue(of: index)
            try #require(next == items.filter { $0.line == nil }.map(\.due).min(), "step \(step)")
        }
        let held = running.flatMap { Set($0.exclusions) }
        try #require(Set(held).count == held.count, "two items with one exclusion key at step \(step)")
    }

    /// Everything that waits begins at last.
    mutating func drain() throws {
        now = now + .seconds(100)
        while true {
            try beginAll(0)
            guard let key = running.first else { break }
            scheduler.forgetOffers(of: Self.name(key))
            scheduler.finish(Self.name(key))
            model.items[key] = nil
        }
        #expect(model.items.isEmpty && Self.limits.indices.allSatisfy { scheduler.waitingCount(of: $0) == 0 })
    }
}
