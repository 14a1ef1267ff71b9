package import EventLoop
import SystemPackage

/// The site's handlers for the events of jobs (specification: rows.md B1 to B13): `DirStartUp.py`, run by a `python3`
/// process.
///
/// A faulty handler costs its event and nothing else: no method here throws, and none takes longer than the time
/// limit for its turn plus the time limit for the handler. Failures are written to the job's report and given as
/// notices.
///
/// A job keeps the handlers it began with: each reload starts a new interpreter, and the old one stays until the last
/// of its jobs has ended. If an interpreter is lost, its jobs continue without handlers, and later ones get a new
/// interpreter.
///
/// - Important: The events of a job are sent one after the other, ``EventName/jobStart`` first and
///   ``EventName/jobEnd`` last. Jobs without the first have no handlers.
@MainActor public final class EventHandlers {
    private struct Binding {
        let interpreter: Interpreter
        /// The job's events that have a handler.
        var events: Set<EventName> = []
        /// Whether the interpreter has an object for this job, which ``EventName/jobEnd`` releases.
        var isKnown = false
        /// Whether the report says already that the handlers are lost.
        var hasLost = false
    }

    let configuration: EventConfiguration
    let host: any EventHandlerHost
    let notice: NoticeHandler
    let clock: any SteadyClock
    /// The interpreter of new jobs; nil: scripting is off.
    private(set) var current: Interpreter?
    var isStopping = false
    /// Why new jobs do not get the handlers of the current script; nil: they do, or there is no script.
    public internal(set) var fault: String?
    private var bindings: [JobID: Binding] = [:]
    private var backoff = InterpreterBackoff()
    /// The interpreter whose loss is already counted.
    private var lastLost: Interpreter?
    private var lastChange: Task<Void, Never>?
    /// Interpreters that are ending.
    private var leaving: [ObjectIdentifier: Task<Void, Never>] = [:]

    /// - Parameters:
    ///   - host: carries out the requests of handlers and receives reports.
    ///   - notice: receives messages for the operator.
    public convenience init(
        _ configuration: EventConfiguration, host: any EventHandlerHost, notice: @escaping NoticeHandler
    ) {
        self.init(configuration, host: host, clock: ContinuousClock(), notice: notice)
    }

    /// - Parameter clock: measures time limits, grace periods and backoff.
    package init(
        _ configuration: EventConfiguration, host: any EventHandlerHost, clock: any SteadyClock,
        notice: @escaping NoticeHandler
    ) {
        self.configuration = configuration
        self.host = host
        self.clock = clock
        self.notice = notice
    }

    /// Whether there are handlers, including those that an open job has kept. If not, events need not be sent.
    package var isActive: Bool { current != nil || !bindings.isEmpty }

    // MARK: - The life of a job

    /// The job was created and scheduled.
    /// - Returns: the job with the priority and level that the handlers set.
    func opened(_ job: Job) async -> Job {
        guard isActive else { return job }
        let started = job.applying(await jobStart(await host.describe(job, .created, volume: nil)))
        return started.applying(await jobInit(await host.describe(started, .created, volume: nil)))
    }

    /// An attempt is about to start. Its priority no longer affects the order of jobs.
    func aboutToRun(_ job: Job) async -> Job {
        guard isActive else { return job }
        return job.applying(await jobRun(await host.describe(job, .created, volume: nil)))
    }

    /// The job has ended.
    func ended(_ job: Job, _ status: JobStatus) async {
        guard isActive else { return }
        await jobEnd(await host.describe(job, status, volume: nil))
    }

    /// A new home needs a volume.
    /// - Parameters:
    ///   - pool: of the volumes.
    ///   - volumes: that with the most free space first.
    /// - Returns: one of the volumes; nil: the daemon chooses.
    public func newVolume(for job: Job, of pool: String, among volumes: [String]) async -> String? {
        guard isActive else { return nil }
        var needing = await host.describe(job, .waitingForNewMedia, volume: volumes.first)
        needing.pool = pool
        needing.volumes = volumes.count
        return await newVolume(needing, volumes: volumes).volumeName
    }

    /// An archived home has been purged from a volume.
    public func volumePurged(_ volume: String, of job: Job) async {
        guard isActive else { return }
        var purged = await host.describe(job, .running, volume: volume)
        purged.volumeName = volume
        await volumePurged(purged)
    }

    // MARK: - Events

    /// A job was created. Its handlers are registered here.
    package func jobStart(_ job: EventJob) async -> EventEffect {
        let deadline = clock.now + configuration.timeLimit
        while let interpreter = await usableInterpreter() {
            bindings[job.id] = Binding(interpreter: interpreter)
            guard interpreter.daemonEvents.contains(.jobStart) else { return .none }
            switch await interpreter.perform(.jobStart, job, startingBefore: deadline) {
            case .failure(.gone) where clock.now < deadline:
                // It was lost before it received this job's event: use the next one.
                unbind(job.id)
            case let result:
                return conclude(result, .jobStart, job)
            }
        }
        // The log says why, once and not for each job.
        if current != nil, !isStopping {
            host.write("error: the job has no handlers: the previous interpreters were lost", to: job.id)
        }
        return .none
    }

    /// The job was scheduled.
    package func jobInit(_ job: EventJob) async -> EventEffect { await perform(.jobInit, job) }

    /// The job is about to run: the last event in which its parameters can be changed.
    package func jobRun(_ job: EventJob) async -> EventEffect { await perform(.jobRun, job) }

    /// Chooses a volume.
    /// - Parameter volumes: the possible names.
    /// - Returns: ``EventEffect/volumeName`` is one of them, or nil: the daemon chooses.
    package func newVolume(_ job: EventJob, volumes: [String]) async -> EventEffect {
        var effect = await perform(.newVolume, job)
        if let name = effect.volumeName, !volumes.contains(name) {
            let known = volumes.isEmpty ? "it has none" : volumes.joined(separator: ", ")
            host.write(
                "error: NewVolume: \"\(OneLine.escaping(name))\" is not a volume of the pool \"\(job.pool)\" (\(known)): the daemon chooses",
                to: job.id)
            effect.volumeName = nil
        }
        return effect
    }

    /// The archived home on ``EventJob/volumeName`` was purged.
    package func volumePurged(_ job: EventJob) async { _ = await perform(.volumePurged, job) }

    /// The job has ended and its handlers are released.
    package func jobEnd(_ job: EventJob) async {
        guard let binding = bindings[job.id] else { return }
        let hasHandler = binding.interpreter.daemonEvents.contains(.jobEnd)
        if binding.isKnown || hasHandler { _ = await deliver(.jobEnd, job) }
        unbind(job.id)
    }

    private func perform(_ event: EventName, _ job: EventJob) async -> EventEffect {
        guard let binding = bindings[job.id], binding.events.contains(event) else { return .none }
        return await deliver(event, job)
    }

    private func deliver(_ event: EventName, _ job: EventJob) async -> EventEffect {
        guard let binding = bindings[job.id], !binding.hasLost else { return .none }
        let deadline = clock.now + configuration.timeLimit
        return conclude(await binding.interpreter.perform(event, job, startingBefore: deadline), event, job)
    }

    /// Records the result of an event and reports errors.
    private func conclude(
        _ result: Result<HandlerMessage.Reply, Interpreter.Loss>, _ event: EventName, _ job: EventJob
    ) -> EventEffect {
        let name = event.rawValue
        switch result {
        case .success(let reply):
            backoff.reset()
            bindings[job.id]?.events = reply.jobEvents
            bindings[job.id]?.isKnown = true
            if let error = reply.error {
                note(.error, "\(name) failed: \(OneLine.escaping(error))", job: job.id)
            }
            return reply.effect
        case .failure(.late):
            report("\(name) was not called within \(configuration.timeLimit): other handlers took too long", job.id)
        case .failure(.hung):
            lose(job.id, "\(name) did not return within \(configuration.timeLimit), and its interpreter was ended")
        case .failure(.died(let how)):
            lose(job.id, "the interpreter \(how) while \(name) ran")
        case .failure(.gone) where isStopping:
            // It was ended, not lost.
            break
        case .failure(.gone), .failure(.failed):
            lose(job.id, "the interpreter was lost before \(name)")
        }
        return .none
    }

    private func lose(_ job: JobID, _ text: String) {
        bindings[job]?.hasLost = true
        report("\(text): the job continues without handlers", job)
    }

    private func report(_ text: String, _ job: JobID) {
        host.write("error: \(text)", to: job)
        note(.error, text, job: job)
    }

    /// Tells the operator.
    func note(_ level: CoreNotice.Level, _ text: String, job: JobID? = nil) {
        notice(CoreNotice(level, "handlers: \(text)", job: job))
    }

    // MARK: - Interpreters

    /// The interpreter for new jobs; a lost one is replaced first.
    private func usableInterpreter() async -> Interpreter? {
        while let interpreter = current, !isStopping {
            let isGone = interpreter.isGone
            guard current === interpreter else { continue }
            guard isGone else { return interpreter }
            guard backoff.mayStart(at: clock.now) else { return nil }
            await serially { await self.replace(lost: interpreter) }
        }
        return nil
    }

    private func replace(lost interpreter: Interpreter) async {
        guard current === interpreter, !isStopping, backoff.mayStart(at: clock.now) else { return }
        if interpreter !== lastLost {
            lastLost = interpreter
            if let pause = backoff.lost(at: clock.now) {
                return note(
                    .error,
                    """
                    \(backoff.losses) interpreters in a row were lost, so there are no handlers for \(pause); correct \
                    \(configuration.script.printable) and run scripts restart to load them earlier
                    """)
            }
        }
        do throws(LoadFailure) {
            adopt(try await loadHandlers())
        } catch {
            adopt(nil)
            report(error, "scripting is off until the handlers are restarted (scripts restart)")
        }
    }

    /// Runs changes of the interpreter one after the other.
    func serially<Value: Sendable>(_ change: @escaping @Sendable () async -> Value) async -> Value {
        let before = lastChange
        let task = Task {
            await before?.value
            return await change()
        }
        lastChange = Task { _ = await task.value }
        return await task.value
    }

    /// Makes it the interpreter of new jobs; the previous one stays as long as it has jobs.
    func adopt(_ interpreter: Interpreter?) {
        let before = current
        current = interpreter
        if let before { retire(before) }
    }

    /// The number of jobs with handlers of an earlier interpreter.
    var jobsWithOldHandlers: Int { bindings.values.count { $0.interpreter !== current && !$0.hasLost } }

    /// Forgets earlier losses after a reload.
    func forgetLosses() { backoff = InterpreterBackoff() }

    private func unbind(_ job: JobID) {
        guard let binding = bindings.removeValue(forKey: job) else { return }
        retire(binding.interpreter)
    }

    /// Ends an interpreter that no job uses.
    private func retire(_ interpreter: Interpreter) {
        let key = ObjectIdentifier(interpreter)
        guard interpreter !== current, leaving[key] == nil else { return }
        guard !bindings.values.contains(where: { $0.interpreter === interpreter }) else { return }
        leaving[key] = Task {
            await interpreter.end()
            self.leaving[key] = nil
        }
    }

    /// Ends all interpreters and waits for that.
    func endAll() async {
        let old = bindings.values.map(\.interpreter)
        bindings = [:]
        adopt(nil)
        old.forEach(retire)
        while let task = leaving.values.first { await task.value }
    }
}

extension Job {
    fileprivate func applying(_ effect: EventEffect) -> Job {
        var job = self
        job.priority = effect.priority ?? priority
        job.level = effect.level ?? level
        return job
    }
}

/// The back-off between the loss of an interpreter and the start of a new one: none at first, and a doubling pause
/// after several losses without a handled event between them.
struct InterpreterBackoff: Hashable, Sendable {
    /// Losses in a row without a pause.
    static let lossesWithoutPause = 2
    static let firstPause = Duration.seconds(60)
    static let longestPause = Duration.seconds(3600)

    private(set) var losses = 0
    private var resumption: ContinuousClock.Instant?

    /// An interpreter was lost.
    /// - Returns: the pause; nil: none.
    mutating func lost(at now: ContinuousClock.Instant) -> Duration? {
        losses += 1
        guard losses > Self.lossesWithoutPause else { return nil }
        let doublings = min(losses - Self.lossesWithoutPause - 1, 16)
        let pause = min(Self.firstPause * (1 << doublings), Self.longestPause)
        resumption = now + pause
        return pause
    }

    /// An event was handled.
    mutating func reset() { self = Self() }

    func mayStart(at now: ContinuousClock.Instant) -> Bool { resumption.map { $0 <= now } ?? true }
}
