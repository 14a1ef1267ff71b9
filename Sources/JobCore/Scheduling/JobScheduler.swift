import DequeModule

/// The scheduler of a process: the driver of ``Scheduler``. It runs nothing itself: the owner of a class of work is
/// told which item begins, and reports when it has ended.
///
/// It sleeps until the next item is due or an item ends.
@MainActor public final class JobScheduler {
    /// The settings and the callbacks of the owner of a class.
    package struct Owner {
        /// The settings of the class; see ``JobScheduler/readLimits()``.
        package var settings: @MainActor () -> JobClass
        /// An item begins. ``JobScheduler/finish(_:again:)`` must be called for it in every case. The
        /// time is the one at which it was due; the clock may have been set back since.
        package var begin: @MainActor (Scheduler.Key, Timestamp) -> Void
        /// An item is due and waits for something else, or its window has closed before it began.
        package var waits: @MainActor (Scheduler.Key, JobStatus) -> Void
        /// Another class needs the subject of a running item.
        package var interrupt: @MainActor (Scheduler.Key) -> Void
        /// The settings were read again.
        package var limitsChanged: @MainActor () -> Void

        package init(
            settings: @escaping @MainActor () -> JobClass,
            begin: @escaping @MainActor (Scheduler.Key, Timestamp) -> Void,
            waits: @escaping @MainActor (Scheduler.Key, JobStatus) -> Void = { _, _ in },
            interrupt: @escaping @MainActor (Scheduler.Key) -> Void = { _ in },
            limitsChanged: @escaping @MainActor () -> Void = {}
        ) {
            (self.settings, self.begin, self.waits) = (settings, begin, waits)
            (self.interrupt, self.limitsChanged) = (interrupt, limitsChanged)
        }
    }

    private var scheduler: Scheduler
    private let limit: @Sendable () -> Int?
    /// The owner of each class, by its index.
    private var owners: [Owner] = []
    private var alarm = Alarm()
    /// The latest time that was reached; it stays reached if the clock is set back.
    private var reached = Timestamp.distantPast
    private let clock: any WallClock
    /// Pending callbacks. A callback may change the scheduler; the resulting callbacks follow later.
    private var calls: Deque<@MainActor () -> Void> = []
    private var isCalling = false

    /// - Parameter limit: of running items of all classes; nil: none. See ``readLimits()``.
    public nonisolated init(limit: @escaping @Sendable () -> Int? = { nil }, clock: any WallClock = SystemWallClock()) {
        scheduler = Scheduler(limit: limit())
        self.limit = limit
        self.clock = clock
    }

    // MARK: - Limits

    /// Reads all limits and windows again; running items continue. To be called when they have changed, since items
    /// that an old one keeps waiting may begin now, and nothing else would make them begin.
    public func readLimits() {
        let now = max(clock.now, reached)
        change { scheduler in
            scheduler.limit = limit()
            for (index, owner) in owners.enumerated() { scheduler.setClass(index, owner.settings(), now: now) }
        }
        for owner in owners { owner.limitsChanged() }
    }

    /// - Returns: the number of a new class.
    package func addClass(_ owner: Owner) -> Int {
        owners.append(owner)
        return scheduler.addClass(owner.settings())
    }

    /// No further item of the class begins.
    package func closeClass(_ index: Int) { change { $0.closeClass(index) } }

    // MARK: - Items

    /// Offers an item; see ``Scheduler/offer(_:)``.
    /// - Returns: the status of a waiting item; nil if it runs.
    @discardableResult
    package func offer(_ item: Scheduler.Item) -> JobStatus? {
        change { $0.offer(item) }
        return status(of: item.key)
    }

    /// Makes a waiting item due.
    package func hasten(_ key: Scheduler.Key) { change { $0.hasten(key) } }

    /// Removes a waiting item.
    /// - Returns: false if it does not wait; it may have just begun.
    package func withdraw(_ key: Scheduler.Key) -> Bool { change { $0.withdraw(key) } }

    /// Forgets the offers since an item began.
    package func forgetOffers(of key: Scheduler.Key) { scheduler.forgetOffers(of: key) }

    /// Takes further exclusion keys for a running item; see ``Scheduler/acquire(_:for:)``.
    package func acquire(_ subjects: [JobSubject], for key: Scheduler.Key) -> Bool {
        scheduler.acquire(subjects, for: key)
    }

    /// Ends an item because another one has subjects that it needs: it waits until it can have them all.
    package func finish(_ key: Scheduler.Key, waitingFor subjects: [JobSubject]) {
        change { $0.finish(key, waitingFor: subjects) }
    }

    /// Ends an item; see ``Scheduler/finish(_:again:)``.
    /// - Returns: when it is due again; nil if it does not wait.
    @discardableResult
    package func finish(_ key: Scheduler.Key, again: Timestamp? = nil) -> Timestamp? {
        change { $0.finish(key, again: again) }
    }

    /// Asks the owner of the item that runs on a subject, if it is of another class, to interrupt it.
    package func interrupt(_ subject: JobSubject, for jobClass: Int) {
        guard let key = scheduler.holder(of: subject), let other = scheduler.jobClass(of: key), other != jobClass
        else { return }
        owners[other].interrupt(key)
    }

    /// Adjusts waits after the clock was set.
    /// - Parameter step: negative: back.
    public func clockWasSet(by step: Duration) {
        // Before items begin: by the old time, those that were moved would be due.
        reached = reached + min(step, .zero)
        change { if step < .zero { $0.clockWasSet(back: .zero - step) } }
    }

    // MARK: - Questions

    /// The status of a waiting item; nil if it does not wait.
    package func status(of key: Scheduler.Key) -> JobStatus? { scheduler.status(of: key) }

    /// Whether an item waits, due or not.
    package func isWaiting(_ key: Scheduler.Key) -> Bool { scheduler.isWaiting(key) }

    /// The number of waiting items of a class, due or not.
    package func waitingCount(of jobClass: Int) -> Int { scheduler.waitingCount(of: jobClass) }

    /// The number of due and waiting items of a class.
    package func dueCount(of jobClass: Int) -> Int { scheduler.dueCount(of: jobClass) }

    /// Whether no item of a class runs or is due.
    package func isIdle(_ jobClass: Int) -> Bool {
        scheduler.runningCount(of: jobClass) == 0 && scheduler.dueCount(of: jobClass) == 0
    }

    /// When the next item of a class becomes due; nil: none.
    package func nextDue(of jobClass: Int) -> Timestamp? { scheduler.nextDue(of: jobClass) }

    // MARK: - Beginning

    @discardableResult
    private func change<Result>(_ body: (inout Scheduler) -> Result) -> Result {
        let result = body(&scheduler)
        beginAll()
        return result
    }

    private func beginAll() {
        let now = max(clock.now, reached)
        while let key = scheduler.next(now: now), let jobClass = scheduler.jobClass(of: key) {
            calls.append { [begin = owners[jobClass].begin] in begin(key, now) }
        }
        for (key, status) in scheduler.takeMoved() {
            guard let jobClass = scheduler.jobClass(of: key) else { continue }
            calls.append { [waits = owners[jobClass].waits] in waits(key, status) }
        }
        alarm.set(to: scheduler.nextDue(), by: clock) { [weak self] time in await self?.reach(time) }
        guard !isCalling else { return }
        isCalling = true
        while let call = calls.popFirst() { call() }
        isCalling = false
    }

    private func reach(_ time: Timestamp) {
        reached = max(reached, time)
        alarm.rang(time)
        beginAll()
    }
}
