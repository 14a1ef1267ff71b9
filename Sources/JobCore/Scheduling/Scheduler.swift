import HeapModule

/// Decides which work may begin: due times, priorities, one running item per exclusion key, limits per class and in
/// total.
///
/// A pure value without a clock: the caller reports events and asks for the next item that may begin. Every item is
/// identified by its key. It has one exclusion key, the subject of its work, and can take further ones while it runs
/// (``acquire(_:for:)``). Two items with a common exclusion key never run at the same time.
///
/// **Order.** Of the items that may begin, the one with the smallest priority number begins first, then the one that
/// became due first. Items that wait for the same exclusion key begin in the order of their ranks; the first of them
/// takes the best place of its class among them in exchange for its own, so that other items are not delayed.
///
/// **Cost.** Every operation takes at most the logarithm of the number of waiting items, and the length of the one
/// line that it inserts into. A blocked item waits in the line of the exclusion key that blocks it and is not
/// examined until it is first there and the key is free.
package struct Scheduler: Sendable {
    /// Identifies an item.
    package enum Key: Hashable, Sendable {
        /// A subject to reconcile: its owner finds out what to do when its turn comes. The subject is its exclusion
        /// key.
        case subject(JobSubject)
        /// A job.
        case job(JobID)

        fileprivate var isSubject: Bool { if case .subject = self { true } else { false } }
    }

    /// Requested work.
    package struct Item: Hashable, Sendable {
        /// An item that is offered again while it waits is the same item.
        package var key: Key
        /// The subject of the work.
        package var exclusion: JobSubject
        /// The index of its class.
        package var jobClass: Int
        /// 1 is more urgent than 10.
        package var priority: Int
        /// The place in the order among items with the same exclusion key, 0…255; the smallest begins first.
        package var rank: Int
        /// The earliest time at which it may begin.
        package var due: Timestamp

        package init(
            job id: JobID, on exclusion: JobSubject, class jobClass: Int, priority: Int = Job.usualPriority,
            rank: Int = 0,
            due: Timestamp = .distantPast
        ) {
            (key, self.exclusion, self.jobClass) = (.job(id), exclusion, jobClass)
            (self.priority, self.rank, self.due) = (priority, rank, due)
        }

        package init(
            reconciling subject: JobSubject, class jobClass: Int, priority: Int = Job.usualPriority,
            due: Timestamp = .distantPast
        ) {
            (key, exclusion, self.jobClass) = (.subject(subject), subject, jobClass)
            (self.priority, rank, self.due) = (priority, 0, due)
        }
    }

    private enum State: UInt8 {
        /// It is not due, and in `later` of its class.
        case later
        /// It is due, and in a line.
        case waiting
        case running
        case runningAndOffered
    }

    /// The order of due items; unique at any time.
    private struct Place: Hashable, Comparable {
        var priority: Int32
        var number: UInt64

        static func < (left: Self, right: Self) -> Bool {
            (left.priority, left.number) < (right.priority, right.number)
        }
    }

    private struct Entry {
        /// The exclusion key of a job, and those that an item took, or could not take, while it ran. The one of a
        /// subject is not stored, because many subjects can wait.
        var exclusions: [JobSubject] = []
        var due: Timestamp
        var place: Place
        var jobClass: UInt8
        var rank: UInt8
        var state = State.later
        /// The line in which it waits: an index into its exclusion keys.
        var lineIndex: UInt8 = 0

        var isRunning: Bool { state == .running || state == .runningAndOffered }
    }

    /// The state of an exclusion key. If the key is free, the first waiting item is in the heap of its class.
    private struct Line {
        var holder: Key?
        /// Ordered by rank, then by place; the places of each class ascend.
        var waiting: [Key] = []
    }

    /// An element of a heap. Heaps cannot remove elements: one whose key has another place is stale.
    private struct Candidate: Hashable, Comparable {
        var order: Place
        var key: Key

        static func < (left: Self, right: Self) -> Bool { left.order < right.order }
    }

    private struct Later: Comparable {
        var due: Timestamp
        var number: UInt64
        var key: Key

        static func == (left: Self, right: Self) -> Bool { left.number == right.number }
        static func < (left: Self, right: Self) -> Bool { (left.due, left.number) < (right.due, right.number) }
    }

    private struct Class {
        var settings: JobClass
        var isClosed = false
        var count = 0
        var running = 0
        /// Due and waiting.
        var due = 0
        var candidates = Heap<Candidate>()
        var later = Heap<Later>()
    }

    private var entries: [Key: Entry] = [:]
    /// The lines by exclusion key. A free line in which only the subject itself waits is not stored, because there can be many.
    private var lines: [JobSubject: Line] = [:]
    private var classes: [Class] = []
    private var moved: [Key] = []
    private var lastNumber: UInt64 = 0
    private let calendar: DayCalendar

    /// The limit on running items of all classes; nil: none. If it is greater than 1, the last place is reserved for
    /// the preferred class.
    package var limit: Int?
    /// The number of running items.
    package private(set) var runningCount = 0

    package init(limit: Int? = nil, calendar: DayCalendar = .system) { (self.limit, self.calendar) = (limit, calendar) }

    // MARK: - Classes

    /// - Returns: the index of a new class; there are at most 256.
    package mutating func addClass(_ settings: JobClass) -> Int {
        classes.append(Class(settings: settings))
        return classes.count - 1
    }

    /// Changes the settings of a class; running items continue, and those that wait for a former window are due.
    package mutating func setClass(_ index: Int, _ settings: JobClass, now: Timestamp) {
        let former = classes[index].settings.window
        classes[index].settings = settings
        guard let former, former != settings.window else { return }
        let opening = former.opening(after: now, in: calendar)
        let waiting = entries.filter {
            $0.value.state == .later && Int($0.value.jobClass) == index && $0.value.due == opening
        }
        for (key, _) in waiting.sorted(by: { $0.value.place.number < $1.value.place.number }) {
            hasten(key)
            moved.append(key)
        }
    }

    /// No further item of the class begins.
    package mutating func closeClass(_ index: Int) { classes[index].isClosed = true }

    /// The number of due and waiting items of a class.
    package func dueCount(of index: Int) -> Int { classes[index].due }

    /// The number of running items of a class.
    package func runningCount(of index: Int) -> Int { classes[index].running }

    /// The number of waiting items of a class, due or not.
    package func waitingCount(of index: Int) -> Int { classes[index].count - classes[index].running }

    /// The class of an item; nil if there is no such item.
    package func jobClass(of key: Key) -> Int? { entries[key].map { Int($0.jobClass) } }

    // MARK: - Waiting

    /// Offers an item. If it waits already, the earlier due time and the more urgent priority count; if it runs, it
    /// waits again when it ends.
    package mutating func offer(_ item: Item) {
        guard var entry = entries[item.key] else {
            let entry = Entry(
                exclusions: item.key.isSubject ? [] : [item.exclusion], due: item.due,
                place: Place(priority: Int32(clamping: item.priority), number: 0),
                jobClass: UInt8(item.jobClass), rank: UInt8(clamping: item.rank))
            classes[item.jobClass].count += 1
            return enqueue(item.key, entry)
        }
        guard !entry.isRunning else {
            entries[item.key]?.state = .runningAndOffered
            return
        }
        let priority = min(entry.place.priority, Int32(clamping: item.priority))
        guard item.due < entry.due || priority < entry.place.priority else { return }
        leaveLine(item.key)
        entry.due = min(entry.due, item.due)
        entry.place.priority = priority
        enqueue(item.key, entry)
    }

    /// Makes a waiting item due.
    package mutating func hasten(_ key: Key) {
        guard var entry = entries[key], entry.state == .later else { return }
        entry.due = .distantPast
        enqueue(key, entry)
    }

    /// Removes a waiting item.
    /// - Returns: false if it does not wait: it runs, or does not exist.
    @discardableResult
    package mutating func withdraw(_ key: Key) -> Bool {
        guard let entry = entries[key], !entry.isRunning else { return false }
        leaveLine(key)
        forget(key)
        return true
    }

    /// Whether the item waits, due or not.
    package func isWaiting(_ key: Key) -> Bool { entries[key].map { !$0.isRunning } ?? false }

    /// The status of a waiting item, which says what it waits for; nil if it does not wait.
    package mutating func status(of key: Key) -> JobStatus? {
        guard let entry = entries[key], !entry.isRunning else { return nil }
        // Its due time, or the opening of its class's window.
        guard let name = line(of: key, entry) else { return .waitingForStartTime }
        // Another item runs on one of its exclusion keys, or begins there before it.
        let line = lines[name] ?? unkeptLine(name)
        if let blocking = line.holder ?? line.waiting.first, blocking != key { return .waitingForClientResource }
        if exclusions(of: key, entry).contains(where: { lines[$0]?.holder != nil }) { return .waitingForClientResource }
        let first = candidate(in: Int(entry.jobClass))
        return first.map { $0.order.priority < entry.place.priority } ?? false
            ? .waitingForPriority : .waitingForMaximumJobs
    }

    /// The item that runs on an exclusion key; nil: none.
    package func holder(of exclusion: JobSubject) -> Key? { lines[exclusion]?.holder }

    // MARK: - Running

    /// Begins the next item.
    /// - Parameter now: decides which items are due and which windows are open.
    /// - Returns: nil if none may begin.
    package mutating func next(now: Timestamp) -> Key? {
        while let later = takeDue(now), var entry = entries[later.key] {
            entry.due = .distantPast
            enqueue(later.key, entry)
            moved.append(later.key)
        }
        while let (index, key) = firstCandidate() {
            _ = classes[index].candidates.popMin()
            if begin(key, index, now) { return key }
        }
        return nil
    }

    /// Takes the item that has been due for the longest time from those that are not yet known to be due.
    private mutating func takeDue(_ now: Timestamp) -> Later? {
        var first: (later: Later, index: Int)?
        for index in classes.indices where nextDue(of: index).map({ $0 <= now }) ?? false {
            guard let later = classes[index].later.min else { continue }
            if first.map({ later < $0.later }) ?? true { first = (later, index) }
        }
        if let first { classes[first.index].later.removeMin() }
        return first?.later
    }

    /// The items that became due or found their window closed since the last call and still wait, with their
    /// statuses.
    package mutating func takeMoved() -> [(key: Key, status: JobStatus)] {
        defer { moved = [] }
        return moved.compactMap { key in status(of: key).map { (key, $0) } }
    }

    /// Forgets the offers since an item began, because its work has not read anything yet, or knows what they are about.
    package mutating func forgetOffers(of key: Key) {
        if entries[key]?.state == .runningAndOffered { entries[key]?.state = .running }
    }

    /// Takes further exclusion keys for a running item, until it ends.
    /// - Returns: false, and none is taken, if another item has one of them; ``finish(_:waitingFor:)`` then makes the
    ///   item wait for them.
    package mutating func acquire(_ exclusions: [JobSubject], for key: Key) -> Bool {
        guard let entry = entries[key], entry.isRunning,
            exclusions.allSatisfy({ lines[$0]?.holder ?? key == key })
        else { return false }
        for exclusion in exclusions where lines[exclusion]?.holder == nil {
            entries[key]?.exclusions.append(exclusion)
            hold(exclusion, for: key)
        }
        return true
    }

    /// Ends an item.
    /// - Parameter again: when it must run again; nil: it need not, unless it was offered.
    /// - Returns: when it is due again; nil if it does not wait.
    @discardableResult
    package mutating func finish(_ key: Key, again: Timestamp? = nil) -> Timestamp? {
        guard var entry = end(key) else { return nil }
        let due = entry.state == .runningAndOffered ? .distantPast : again
        guard let due else {
            forget(key)
            return nil
        }
        (entry.due, entry.place.priority) = (due, Int32(Job.usualPriority))
        enqueue(key, entry)
        return due
    }

    /// Ends an item because another one has an exclusion key that it needs: it waits until it can have them all.
    package mutating func finish(_ key: Key, waitingFor exclusions: [JobSubject]) {
        guard var entry = end(key) else { return }
        entry.due = .distantPast
        entry.exclusions += exclusions.prefix(Int(UInt8.max) - 1)
        enqueue(key, entry)
    }

    // MARK: - Time

    /// When the next item becomes due; nil: none.
    package mutating func nextDue() -> Timestamp? { classes.indices.compactMap { nextDue(of: $0) }.min() }

    /// When the next item of a class becomes due; nil: none.
    package mutating func nextDue(of index: Int) -> Timestamp? {
        while let first = classes[index].later.min, !isCurrent(first) { classes[index].later.removeMin() }
        return classes[index].later.min?.due
    }

    /// Moves due times after the clock was set back. An item that waits for a duration waits as long as before; one
    /// that waits for a date comes up early and has to be offered again.
    package mutating func clockWasSet(back duration: Duration) {
        for index in classes.indices {
            let current = classes[index].later.unordered.filter(isCurrent)
            classes[index].later = Heap(
                current.map { element in
                    var element = element
                    element.due = element.due + (.zero - duration)
                    entries[element.key]?.due = element.due
                    return element
                })
        }
    }

    // MARK: - Lines

    private func exclusions(of key: Key, _ entry: Entry) -> [JobSubject] {
        if case .subject(let subject) = key { [subject] + entry.exclusions } else { entry.exclusions }
    }

    /// The line in which an item waits; nil if it does not wait or is not due.
    private func line(of key: Key, _ entry: Entry) -> JobSubject? {
        guard entry.state == .waiting else { return nil }
        let index = Int(entry.lineIndex)
        guard case .subject(let subject) = key else { return entry.exclusions[index] }
        return index == 0 ? subject : entry.exclusions[index - 1]
    }

    private mutating func enqueue(_ key: Key, _ entry: Entry) {
        var entry = entry
        lastNumber += 1
        entry.place.number = lastNumber
        guard entry.due == .distantPast else {
            entry.state = .later
            entries[key] = entry
            let index = Int(entry.jobClass)
            classes[index].later.insert(Later(due: entry.due, number: lastNumber, key: key))
            if classes[index].later.count > 2 * entries.count + 64 {
                classes[index].later = Heap(classes[index].later.unordered.filter(isCurrent))
            }
            return
        }
        wait(key, entry)
    }

    /// Puts the item into the line of the key that blocks it, or of its first key if none does.
    private mutating func wait(_ key: Key, _ entry: Entry) {
        var entry = entry
        entry.state = .waiting
        entry.lineIndex = UInt8(exclusions(of: key, entry).firstIndex { lines[$0]?.holder != nil } ?? 0)
        entries[key] = entry
        classes[Int(entry.jobClass)].due += 1
        join(key, entry)
    }

    private mutating func join(_ key: Key, _ entry: Entry) {
        guard let name = line(of: key, entry) else { return }
        var line = lines.removeValue(forKey: name) ?? (key == .subject(name) ? Line() : unkeptLine(name))
        let first = line.waiting.first
        // Usually it becomes the last.
        var index = line.waiting.count
        while index > 0, isBefore(key, line.waiting[index - 1]) { index -= 1 }
        line.waiting.insert(key, at: index)
        let isExchanged = exchangePlaces(&line.waiting, inserted: index)
        keep(line, name)
        if line.holder == nil, let candidate = line.waiting.first, isExchanged || candidate != first {
            insertCandidate(candidate)
        }
    }

    /// The order within a line.
    private func isBefore(_ key: Key, _ other: Key) -> Bool {
        guard let left = entries[key], let right = entries[other] else { return false }
        return (left.rank, left.place) < (right.rank, right.place)
    }

    /// Makes the places of an inserted item's class ascend along its line.
    /// - Returns: whether they did not before.
    private mutating func exchangePlaces(_ waiting: inout [Key], inserted index: Int) -> Bool {
        guard let inserted = entries[waiting[index]] else { return false }
        func isMate(_ key: Key) -> Bool { entries[key]?.jobClass == inserted.jobClass }
        let before = waiting[..<index].last(where: isMate).flatMap { entries[$0]?.place }
        let after = waiting[(index + 1)...].first(where: isMate).flatMap { entries[$0]?.place }
        guard before.map({ $0 > inserted.place }) ?? false || after.map({ $0 < inserted.place }) ?? false else {
            return false
        }
        let mates = waiting.filter(isMate)
        let places = mates.compactMap { entries[$0]?.place }.sorted()
        for (key, place) in zip(mates, places) { entries[key]?.place = place }
        waiting.sort(by: isBefore)
        return true
    }

    /// Removes a due item from its line; the next one takes its turn.
    private mutating func leaveLine(_ key: Key) {
        guard let entry = entries[key], let name = line(of: key, entry) else { return }
        var line = lines.removeValue(forKey: name) ?? unkeptLine(name)
        classes[Int(entry.jobClass)].due -= 1
        if let index = line.waiting.firstIndex(of: key) { line.waiting.remove(at: index) }
        restore(line, name)
    }

    /// Stores a changed line, and adds its first item to the candidates.
    private mutating func restore(_ line: Line, _ name: JobSubject) {
        keep(line, name)
        if line.holder == nil, let first = line.waiting.first { insertCandidate(first) }
    }

    private mutating func keep(_ line: Line, _ name: JobSubject) {
        let isUnkept = line.holder == nil && line.waiting.allSatisfy { $0 == .subject(name) }
        lines[name] = isUnkept ? nil : line
    }

    /// The line of an exclusion key that is not stored.
    private func unkeptLine(_ name: JobSubject) -> Line {
        guard let entry = entries[.subject(name)], entry.state == .waiting, entry.lineIndex == 0 else { return Line() }
        return Line(waiting: [.subject(name)])
    }

    private mutating func hold(_ name: JobSubject, for key: Key) {
        var line = lines.removeValue(forKey: name) ?? unkeptLine(name)
        line.holder = key
        lines[name] = line
    }

    private mutating func insertCandidate(_ key: Key) {
        guard let entry = entries[key] else { return }
        let index = Int(entry.jobClass)
        classes[index].candidates.insert(Candidate(order: entry.place, key: key))
        guard classes[index].candidates.count > 2 * entries.count + 64 else { return }
        let current = Set(classes[index].candidates.unordered.filter(isCurrent))
        classes[index].candidates = Heap(current)
    }

    // MARK: - Beginning and ending

    /// The class with a free place and the best candidate, and that candidate.
    private mutating func firstCandidate() -> (Int, Key)? {
        var best: (index: Int, candidate: Candidate)?
        for index in classes.indices where hasRoom(index) {
            guard let candidate = candidate(in: index) else { continue }
            if best.map({ candidate < $0.candidate }) ?? true { best = (index, candidate) }
        }
        return best.map { ($0.index, $0.candidate.key) }
    }

    private func hasRoom(_ index: Int) -> Bool {
        guard !classes[index].isClosed, classes[index].running < classes[index].settings.limit else { return false }
        guard let limit else { return true }
        if limit > 1, !classes[index].settings.isPreferred,
            classes.contains(where: { $0.settings.isPreferred && $0.running == 0 })
        {
            return runningCount < limit - 1
        }
        return runningCount < max(1, limit)
    }

    private mutating func candidate(in index: Int) -> Candidate? {
        while let first = classes[index].candidates.min {
            if isCurrent(first) { return first }
            classes[index].candidates.removeMin()
        }
        return nil
    }

    /// - Returns: false if it has to wait for something else.
    private mutating func begin(_ key: Key, _ index: Int, _ now: Timestamp) -> Bool {
        guard var entry = entries[key] else { return false }
        let opening = classes[index].settings.window?.opening(after: now, in: calendar) ?? now
        let isBlocked = exclusions(of: key, entry).contains { lines[$0]?.holder != nil }
        guard opening <= now, !isBlocked else {
            leaveLine(key)
            guard opening > now else {
                wait(key, entry)
                return false
            }
            entry.due = opening
            enqueue(key, entry)
            moved.append(key)
            return false
        }
        for name in exclusions(of: key, entry) { hold(name, for: key) }
        leaveLine(key)
        entry.state = .running
        entries[key] = entry
        classes[index].running += 1
        runningCount += 1
        return true
    }

    /// - Returns: the item without the keys that it took while it ran.
    private mutating func end(_ key: Key) -> Entry? {
        guard var entry = entries[key], entry.isRunning else { return nil }
        classes[Int(entry.jobClass)].running -= 1
        runningCount -= 1
        for name in exclusions(of: key, entry) {
            guard var line = lines.removeValue(forKey: name) else { continue }
            line.holder = nil
            restore(line, name)
        }
        entry.exclusions = Array(entry.exclusions.prefix(key.isSubject ? 0 : 1))
        return entry
    }

    private mutating func forget(_ key: Key) {
        guard let entry = entries.removeValue(forKey: key) else { return }
        classes[Int(entry.jobClass)].count -= 1
        guard entries.isEmpty else { return }
        // Removing does not release memory.
        (entries, lines) = ([:], [:])
        for index in classes.indices { (classes[index].candidates, classes[index].later) = (Heap(), Heap()) }
    }

    private func isCurrent(_ element: Later) -> Bool {
        entries[element.key].map { $0.state == .later && $0.place.number == element.number } ?? false
    }

    private func isCurrent(_ candidate: Candidate) -> Bool {
        guard let entry = entries[candidate.key], entry.place == candidate.order,
            let name = line(of: candidate.key, entry)
        else {
            return false
        }
        guard let line = lines[name] else { return candidate.key == .subject(name) }
        return line.holder == nil && line.waiting.first == candidate.key
    }
}

/// The settings of a class of work.
package struct JobClass: Hashable, Sendable {
    /// The limit on running items; at least 1.
    package var limit: Int
    /// When items may begin; nil: at any time.
    package var window: TimeWindow?
    /// Whether the last place of the limit on all classes is reserved for this class.
    package var isPreferred: Bool

    package init(limit: Int, window: TimeWindow? = nil, isPreferred: Bool = false) {
        (self.limit, self.window, self.isPreferred) = (max(1, limit), window, isPreferred)
    }
}
