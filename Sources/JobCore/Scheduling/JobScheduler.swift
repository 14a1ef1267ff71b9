import DequeModule

/// The scheduler of a process: the one place that says which work may begin. It runs nothing itself; whoever adds a class of work is told which
/// item of it begins, and says when it has ended.
///
/// It sleeps until the next item is due or something ends.
@MainActor public final class JobScheduler {
    package typealias Key = Scheduler<JobSubject, JobID>.Key
    package typealias Item = Scheduler<JobSubject, JobID>.Item

    /// What the owner of a class is told.
    package struct Owner {
        /// An item begins. ``JobScheduler/finish(_:again:ignoringOffers:)`` has to be called for it, whatever becomes of it. The time is the one
        /// by which it was due; the clock may have been set back since.
        package var begin: @MainActor (Key, WallTime) -> Void
        /// An item has become due and has to wait for something else, or its window has closed before it began.
        package var waits: @MainActor (Key, JobStatus) -> Void
        /// Another class needs what a running item works on.
        package var interrupt: @MainActor (Key) -> Void

        package init(
            begin: @escaping @MainActor (Key, WallTime) -> Void,
            waits: @escaping @MainActor (Key, JobStatus) -> Void = { _, _ in },
            interrupt: @escaping @MainActor (Key) -> Void = { _ in }
        ) {
            (self.begin, self.waits, self.interrupt) = (begin, waits, interrupt)
        }
    }

    private var scheduler: Scheduler<JobSubject, JobID>
    /// By class.
    private var owners: [Owner] = []
    private var alarm = Alarm()
    /// The latest time that was slept for: it has come, even if the clock was set back meanwhile.
    private var reached = WallTime.distantPast
    private let clock: any WallClock
    /// What owners are to be told. They may change things while they are told: what follows from that is told afterwards.
    private var calls: Deque<@MainActor () -> Void> = []
    private var isTelling = false

    /// - Parameter limit: the most items of all classes that run at once; nil: no limit.
    public nonisolated init(limit: Int? = nil, clock: any WallClock = SystemWallClock()) {
        scheduler = Scheduler(limit: limit)
        self.clock = clock
    }

    // MARK: - Limits

    /// Another limit on all classes, from now on; running items go on.
    public func setLimit(_ limit: Int?) { change { $0.limit = limit } }

    /// - Returns: the number of a new class.
    package func addClass(_ settings: JobClass, owner: Owner) -> Int {
        owners.append(owner)
        return scheduler.addClass(settings)
    }

    package func setClass(_ index: Int, _ settings: JobClass) { change { $0.setClass(index, settings) } }

    /// No item of the class begins any more.
    package func closeClass(_ index: Int) { change { $0.closeClass(index) } }

    // MARK: - Items

    /// Asks for an item to be run; see ``Scheduler/offer(_:)``.
    /// - Returns: the status of what it waits for; nil when it runs.
    @discardableResult
    package func offer(_ item: Item) -> JobStatus? {
        change { $0.offer(item) }
        return status(of: item.key)
    }

    /// Makes an item due that waits.
    package func hasten(_ key: Key) { change { $0.hasten(key) } }

    /// Removes an item that waits.
    /// - Returns: false when it does not wait; it may have begun just now.
    package func withdraw(_ key: Key) -> Bool { change { $0.withdraw(key) } }

    /// Forgets what was offered since an item began.
    package func forgetOffers(of key: Key) { scheduler.forgetOffers(of: key) }

    /// Takes further exclusion keys for a running item; see ``Scheduler/acquire(_:for:)``.
    package func acquire(_ subjects: [JobSubject], for key: Key) -> Bool {
        scheduler.acquire(subjects, for: key)
    }

    /// An item has ended since another one has subjects that it needs: it waits until it can have them all.
    package func finish(_ key: Key, waitingFor subjects: [JobSubject]) {
        change { $0.finish(key, waitingFor: subjects) }
    }

    /// An item has ended; see ``Scheduler/finish(_:again:ignoringOffers:)``.
    /// - Returns: when it is due again; nil when it does not wait any more.
    @discardableResult
    package func finish(_ key: Key, again: WallTime? = nil, ignoringOffers: Bool = false) -> WallTime? {
        change { $0.finish(key, again: again, ignoringOffers: ignoringOffers) }
    }

    /// Tells the owner of the item that runs on a subject, if it is of another class, that this class needs the subject.
    package func interrupt(_ subject: JobSubject, for jobClass: Int) {
        guard let key = scheduler.holder(of: subject), let other = scheduler.jobClass(of: key), other != jobClass
        else { return }
        owners[other].interrupt(key)
    }

    /// The clock was set: what waits for a while waits no longer by it.
    /// - Parameter step: negative: back.
    public func clockWasSet(by step: Duration) {
        change { if step < .zero { $0.clockWasSet(back: .zero - step) } }
        reached = reached + min(step, .zero)
    }

    // MARK: - Questions

    /// The status of what an item waits for; nil when it does not wait.
    package func status(of key: Key) -> JobStatus? {
        scheduler.obstacle(of: key).map(Self.status)
    }

    private static func status(_ obstacle: Scheduler<JobSubject, JobID>.Obstacle) -> JobStatus {
        switch obstacle {
        case .time: .waitingForStartTime
        case .exclusion: .waitingForClientResource
        case .priority: .waitingForPriority
        case .limit: .waitingForMaximumJobs
        }
    }

    /// Whether an item waits, due or not.
    package func isWaiting(_ key: Key) -> Bool { scheduler.isWaiting(key) }

    /// How many items of a class wait, due or not.
    package func waitingCount(of jobClass: Int) -> Int { scheduler.waitingCount(of: jobClass) }

    /// How many items of a class are due and wait.
    package func dueCount(of jobClass: Int) -> Int { scheduler.dueCount(of: jobClass) }

    /// Whether no item of a class runs or is due.
    package func isIdle(_ jobClass: Int) -> Bool {
        scheduler.runningCount(of: jobClass) == 0 && scheduler.dueCount(of: jobClass) == 0
    }

    /// When the next item of a class that is not due becomes due; nil when there is none.
    package func nextDue(of jobClass: Int) -> WallTime? { scheduler.nextDue(of: jobClass) }

    // MARK: - Beginning

    @discardableResult
    private func change<Result>(_ body: (inout Scheduler<JobSubject, JobID>) -> Result) -> Result {
        let result = body(&scheduler)
        beginAll()
        return result
    }

    private func beginAll() {
        let now = max(clock.now, reached)
        while let key = scheduler.next(now: now), let jobClass = scheduler.jobClass(of: key) {
            calls.append { [begin = owners[jobClass].begin] in begin(key, now) }
        }
        for (key, obstacle) in scheduler.takeMoved() {
            guard let jobClass = scheduler.jobClass(of: key) else { continue }
            calls.append { [waits = owners[jobClass].waits] in waits(key, Self.status(obstacle)) }
        }
        alarm.set(to: scheduler.nextDue(), by: clock) { [weak self] time in await self?.reach(time) }
        guard !isTelling else { return }
        isTelling = true
        while let call = calls.popFirst() { call() }
        isTelling = false
    }

    private func reach(_ time: WallTime) {
        reached = max(reached, time)
        alarm.rang(time)
        beginAll()
    }
}
