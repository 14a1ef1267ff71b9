package import EventLoop
import SystemPackage

/// The site's handlers for the events of jobs (specification: rows.md B1 to B13): `DirStartUp.py`, run by a `python3`
/// process.
///
/// No method here throws, and a faulty handler stops neither a job nor the daemon. One that raises costs its event; one
/// that hangs or dies costs its interpreter as well. Failures are written to the job's report and given as notices.
///
/// Events wait for their turn as long as it takes: each handler before them ends within the time limit or loses its
/// interpreter, and a job waits with one event at a time.
///
/// A job keeps the handlers it began with: each reload starts a new interpreter, and the old one stays until the last
/// of its jobs has ended. If an interpreter is lost, its jobs continue without handlers, and their
/// ``EventName/jobEnd`` goes to the interpreter that replaces it, as the events of later jobs do.
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
    /// Why no handlers run though there is a script; nil: they run, perhaps those of an earlier script, or there is none.
    public var scriptingError: String? { hasHandlers ? nil : fault }
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
        let started = job.applying(await performForDaemon(.jobStart, host.describe(job, .created, volume: nil)))
        return started.applying(await perform(.jobInit, host.describe(started, .created, volume: nil)))
    }

    /// An attempt is about to start. Its priority no longer affects the order of jobs.
    func aboutToRun(_ job: Job) async -> Job {
        guard isActive else { return job }
        return job.applying(await perform(.jobRun, host.describe(job, .created, volume: nil)))
    }

    /// The job has ended.
    func ended(_ job: Job, _ status: JobStatus) async {
        guard isActive else { return }
        // In a task of its own: a stop cancels also tasks that only close a job, and the job is closed in any case.
        await Task { await jobEnd(await host.describe(job, status, volume: nil)) }.value
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
        guard let name = await perform(.newVolume, needing).volumeName else { return nil }
        guard volumes.contains(name) else {
            let known = volumes.isEmpty ? "it has none" : volumes.joined(separator: ", ")
            host.write(
                "error: NewVolume: \"\(OneLine.escaping(name))\" is not a volume of the pool \"\(pool)\" (\(known)): the daemon chooses",
                to: job.id, source: .daemon)
            return nil
        }
        return name
    }

    /// An archived home has been purged from a volume.
    public func volumePurged(_ volume: String, of job: Job) async {
        guard isActive else { return }
        var purged = await host.describe(job, .running, volume: volume)
        purged.volumeName = volume
        _ = await perform(.volumePurged, purged)
    }

    // MARK: - Events

    /// The job has ended and its handlers are released.
    func jobEnd(_ job: EventJob) async {
        guard bindings[job.id] != nil else { return }
        _ = await performForDaemon(.jobEnd, job)
        unbind(job.id)
    }

    /// An event for the daemon's handlers: those of the job's interpreter; if it was lost before it received the event,
    /// those of the next one.
    func performForDaemon(_ event: EventName, _ job: EventJob) async -> EventEffect {
        while let interpreter = await interpreter(of: job.id) {
            let isKnown = bindings[job.id]?.isKnown ?? false
            guard isKnown || interpreter.daemonEvents.contains(event) else { return .none }
            switch await perform(event, job, by: interpreter) {
            case .failure(.gone) where !isStopping: unbind(job.id)
            case let result: return conclude(result, event, job)
            }
        }
        // The log says why, once and not for each job.
        if current != nil, !isStopping {
            host.write(
                "error: \(event.rawValue) was not called: the previous interpreters were lost", to: job.id,
                source: .daemon)
        }
        return .none
    }

    /// The interpreter that the job began with, otherwise the current one, which the job has from now on.
    private func interpreter(of job: JobID) async -> Interpreter? {
        if let binding = bindings[job] {
            if !binding.hasLost, !binding.interpreter.isGone { return binding.interpreter }
            unbind(job)
        }
        let interpreter = await usableInterpreter()
        if let interpreter { bindings[job] = Binding(interpreter: interpreter) }
        return interpreter
    }

    /// An event for the handlers that the job has registered.
    func perform(_ event: EventName, _ job: EventJob) async -> EventEffect {
        guard let binding = bindings[job.id], binding.events.contains(event), !binding.hasLost else { return .none }
        return conclude(await perform(event, job, by: binding.interpreter), event, job)
    }

    private func perform(
        _ event: EventName, _ job: EventJob, by interpreter: Interpreter
    ) async -> Result<HandlerMessage.Reply, Interpreter.Loss> {
        await interpreter.perform(event, job) { wait in
            if wait > self.configuration.timeLimit {
                self.note(
                    .warning,
                    "\(event.rawValue) waited \(Duration.seconds(wait.components.seconds)) for other handlers, and so did the job",
                    job: job.id)
            }
        }
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
        case .failure(.hung):
            lose(
                job.id, event, "\(name) did not return within \(configuration.timeLimit), and its interpreter was ended"
            )
        case .failure(.died(let how)):
            lose(job.id, event, "the interpreter \(how) while \(name) ran")
        case .failure(.gone) where isStopping && event != .jobEnd:
            // It was ended, not lost. JobEnd is not called again.
            break
        case .failure(.late):
            // The attempt was interrupted before its turn.
            break
        case .failure(.gone):
            lose(job.id, event, "the interpreter was lost before \(name)")
        }
        return .none
    }

    private func lose(_ job: JobID, _ event: EventName, _ text: String) {
        bindings[job]?.hasLost = true
        let text = event == .jobEnd ? text : "\(text): the job continues without handlers until JobEnd"
        host.write("error: \(text)", to: job, source: .daemon)
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
                let text =
                    "\(configuration.script.printable): \(backoff.losses) interpreters in a row were lost, so there are no handlers for \(pause)"
                fault = text
                return note(.error, "\(text); correct it and run scripts restart to load them earlier")
            }
        }
        do throws(LoadFailure) {
            await use(try await loadHandlers())
        } catch .noScript {
            adopt(nil)
            report(.noScript, "scripting is off")
        } catch {
            // It may have been edited, or Python be installed: a later job tries again.
            let pause = backoff.notLoaded(at: clock.now)
            report(error, "there are no handlers for \(pause), then the next job loads them again")
        }
    }

    /// Whether new jobs get handlers; a lost interpreter that is about to be replaced has none.
    var hasHandlers: Bool { current.map { !$0.isGone } ?? false }

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
    var jobsWithOldHandlers: Int {
        bindings.values.count { $0.interpreter !== current && !$0.hasLost && !$0.interpreter.isGone }
    }

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
/// after several losses without a handled event between them, and when the script cannot be loaded again.
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
        return losses > Self.lossesWithoutPause ? pause(at: now) : nil
    }

    /// The script could not be loaded after a loss: there is a pause in any case.
    mutating func notLoaded(at now: ContinuousClock.Instant) -> Duration {
        losses = max(losses, Self.lossesWithoutPause) + 1
        return pause(at: now)
    }

    private mutating func pause(at now: ContinuousClock.Instant) -> Duration {
        let doublings = min(losses - Self.lossesWithoutPause - 1, 16)
        let pause = min(Self.firstPause * (1 << doublings), Self.longestPause)
        resumption = now + pause
        return pause
    }

    /// An event was handled.
    mutating func reset() { self = Self() }

    func mayStart(at now: ContinuousClock.Instant) -> Bool { resumption.map { $0 <= now } ?? true }
}
