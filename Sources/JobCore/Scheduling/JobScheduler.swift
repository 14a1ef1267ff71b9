import Synchronization

/// The scheduler of a process: the one place that says which work may begin. It runs nothing itself; whoever adds a class of work is told which
/// item of it begins, and says when it has ended.
///
/// It sleeps until the next item is due or something ends. Its lock is held while the value is changed, never while anything is called.
public final class JobScheduler: Sendable {
    package typealias Key = Scheduler<JobSubject, JobID>.Key
    package typealias Item = Scheduler<JobSubject, JobID>.Item

    /// What the owner of a class is told, on the thread of whoever has changed something. None of it may block.
    package struct Owner: Sendable {
        /// An item begins. ``JobScheduler/finish(_:again:ignoringOffers:)`` has to be called for it, whatever becomes of it. The time is the one
        /// by which it was due; the clock may have been set back since.
        package var begin: @Sendable (Key, WallTime) -> Void
        /// An item has become due and has to wait for something else, or its window has closed before it began.
        package var waits: @Sendable (Key, JobStatus) -> Void
        /// Another class needs what a running item works on.
        package var interrupt: @Sendable (Key) -> Void

        package init(
            begin: @escaping @Sendable (Key, WallTime) -> Void,
            waits: @escaping @Sendable (Key, JobStatus) -> Void = { _, _ in },
            interrupt: @escaping @Sendable (Key) -> Void = { _ in }
        ) {
            (self.begin, self.waits, self.interrupt) = (begin, waits, interrupt)
        }
    }

    private struct State {
        var scheduler: Scheduler<JobSubject, JobID>
        var owners: [Owner] = []
        var alarm = Alarm()
        /// The latest time that was slept for: it has come, even if the clock was set back meanwhile.
        var reached = WallTime.distantPast
    }

    private let state: Mutex<State>
    private let clock: any WallClock

    /// - Parameter limit: the most items of all classes that run at once; nil: no limit.
    public init(limit: Int? = nil, clock: any WallClock = SystemWallClock()) {
        state = Mutex(State(scheduler: Scheduler(limit: limit)))
        self.clock = clock
    }

    // MARK: - Limits

    /// Another limit on all classes, from now on; running items go on.
    public func setLimit(_ limit: Int?) { change { $0.limit = limit } }

    /// - Returns: the number of a new class.
    package func addClass(_ settings: JobClass, owner: Owner) -> Int {
        state.withLock { state in
            state.owners.append(owner)
            return state.scheduler.addClass(settings)
        }
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
    package func forgetOffers(of key: Key) { state.withLock { $0.scheduler.forgetOffers(of: key) } }

    /// Takes further exclusion keys for a running item; see ``Scheduler/acquire(_:for:)``.
    package func acquire(_ subjects: [JobSubject], for key: Key) -> Bool {
        state.withLock { $0.scheduler.acquire(subjects, for: key) }
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
        let found = state.withLock { state -> (Owner, Key)? in
            guard let key = state.scheduler.holder(of: subject), let other = state.scheduler.jobClass(of: key),
                other != jobClass
            else { return nil }
            return (state.owners[other], key)
        }
        if let (owner, key) = found { owner.interrupt(key) }
    }

    /// The clock was set: what waits for a while waits no longer by it.
    /// - Parameter step: negative: back.
    public func clockWasSet(by step: Duration) {
        change { if step < .zero { $0.clockWasSet(back: .zero - step) } }
        state.withLock { $0.reached = $0.reached + min(step, .zero) }
    }

    // MARK: - Questions

    /// The status of what an item waits for; nil when it does not wait.
    package func status(of key: Key) -> JobStatus? {
        state.withLock { $0.scheduler.obstacle(of: key) }.map(Self.status)
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
    package func isWaiting(_ key: Key) -> Bool { state.withLock { $0.scheduler.isWaiting(key) } }

    /// How many items of a class wait, due or not.
    package func waitingCount(of jobClass: Int) -> Int { state.withLock { $0.scheduler.waitingCount(of: jobClass) } }

    /// How many items of a class are due and wait.
    package func dueCount(of jobClass: Int) -> Int { state.withLock { $0.scheduler.dueCount(of: jobClass) } }

    /// Whether no item of a class runs or is due.
    package func isIdle(_ jobClass: Int) -> Bool {
        state.withLock { state in
            state.scheduler.runningCount(of: jobClass) == 0 && state.scheduler.dueCount(of: jobClass) == 0
        }
    }

    /// When the next item of a class that is not due becomes due; nil when there is none.
    package func nextDue(of jobClass: Int) -> WallTime? { state.withLock { $0.scheduler.nextDue(of: jobClass) } }

    // MARK: - Beginning

    @discardableResult
    private func change<Result: Sendable>(
        reached: WallTime = .distantPast, _ body: (inout Scheduler<JobSubject, JobID>) -> Result
    ) -> Result {
        let (result, calls) = state.withLock { state in
            state.reached = max(state.reached, reached)
            if reached > .distantPast { state.alarm.rang(reached) }
            let result = body(&state.scheduler)
            return (result, beginAll(&state, now: max(clock.now, reached)))
        }
        for call in calls { call() }
        return result
    }

    /// - Returns: what the owners are to be told, after the lock is given back.
    private func beginAll(_ state: inout State, now: WallTime) -> [@Sendable () -> Void] {
        var calls: [@Sendable () -> Void] = []
        let due = max(now, state.reached)
        while let key = state.scheduler.next(now: now), let jobClass = state.scheduler.jobClass(of: key) {
            calls.append { [begin = state.owners[jobClass].begin] in begin(key, due) }
        }
        for (key, obstacle) in state.scheduler.takeMoved() {
            guard let jobClass = state.scheduler.jobClass(of: key) else { continue }
            calls.append { [waits = state.owners[jobClass].waits] in waits(key, Self.status(obstacle)) }
        }
        // Not from within: a time that has come already would call back at once, under the lock.
        state.alarm.set(to: state.scheduler.nextDue(), by: clock) { [weak self] time in
            Task { self?.change(reached: time) { _ in } }
        }
        return calls
    }
}
