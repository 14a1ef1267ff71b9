package import EventLoop
import Synchronization
import SystemPackage

/// The handlers that a site has written for the events of jobs (specification: rows.md B1 to B13): `DirStartUp.py`, run by one `python3` process beside the daemon.
///
/// What a handler does wrong costs its event and nothing else: no call here throws, and none takes longer than the time limit for its turn and the
/// time limit again for the handler. Failures stand in the job's report and are given as notices.
///
/// A job keeps the handlers it began with: each time the script is loaded anew, a new interpreter is started, and an old one stays until the last
/// of its jobs has ended. When an interpreter is lost, its jobs go on without handlers, and later ones get a new interpreter.
///
/// - Important: A job's events are sent one after the other, ``jobStart(_:)`` first and ``jobEnd(_:)`` last and always. Jobs of which no
///   ``jobStart(_:)`` was heard have no handlers.
@MainActor public final class EventHandlers {
    private struct Binding {
        let interpreter: Interpreter
        /// The job's own events for which it has a handler.
        var events: Set<EventName> = []
        /// Whether the interpreter has an object of this job, which it is to forget.
        var isKnown = false
        /// Whether the report tells already that the handlers are lost.
        var hasLost = false
    }

    let configuration: EventConfiguration
    let host: any EventHandlerHost
    let notice: NoticeHandler
    private nonisolated let activity = Atomic(false)
    let clock: any SteadyClock
    /// Whose handlers new jobs get; nil when scripting is off.
    private(set) var current: Interpreter? { didSet { noteActivity() } }
    var isStopping = false
    /// Why new jobs do not get the handlers of the script that is there; nil: they do, or there is no script.
    public internal(set) var fault: String?
    private var bindings: [JobID: Binding] = [:] { didSet { noteActivity() } }
    private var pauses = InterpreterPauses()
    /// The one whose loss is counted already.
    private var lastLost: Interpreter?
    private var lastChange: Task<Void, Never>?
    /// Interpreters that have been told to leave.
    private var leaving: [ObjectIdentifier: Task<Void, Never>] = [:]

    /// Nothing is started yet.
    /// - Parameters:
    ///   - host: what handlers can ask for, and where reports go.
    ///   - notice: where everything goes that an operator should read.
    public convenience init(
        _ configuration: EventConfiguration, host: any EventHandlerHost, notice: @escaping NoticeHandler
    ) {
        self.init(configuration, host: host, clock: ContinuousClock(), notice: notice)
    }

    /// - Parameter clock: by which time limits, graces and pauses go.
    package init(
        _ configuration: EventConfiguration, host: any EventHandlerHost, clock: any SteadyClock,
        notice: @escaping NoticeHandler
    ) {
        self.configuration = configuration
        self.host = host
        self.clock = clock
        self.notice = notice
    }

    /// Whether there are handlers, be it those that an open job has kept. When there are none, events need not be sent: they would do nothing.
    public nonisolated var isActive: Bool { activity.load(ordering: .relaxed) }

    private func noteActivity() { activity.store(current != nil || !bindings.isEmpty, ordering: .relaxed) }

    // MARK: - Events

    /// A job has been made. Its handlers are registered here, and nowhere else.
    public func jobStart(_ job: EventJob) async -> EventEffect {
        let turn = clock.now + configuration.timeLimit
        while let interpreter = await usable() {
            bindings[job.id] = Binding(interpreter: interpreter)
            guard interpreter.daemonEvents.contains(.jobStart) else { return .none }
            switch await interpreter.perform(.jobStart, job, turn: turn) {
            case .failure(.gone) where clock.now < turn:
                // It was lost before it heard of this job: the next one is as good.
                unbind(job.id)
            case let result:
                return conclude(result, .jobStart, job)
            }
        }
        // The log tells why; it is not told again for each job.
        if current != nil, !isStopping {
            host.write("error: the job has no handlers: the interpreters before were lost", to: job.id)
        }
        return .none
    }

    /// The job has been scheduled.
    public func jobInit(_ job: EventJob) async -> EventEffect { await perform(.jobInit, job) }

    /// The job is about to run: the last moment to change its parameters.
    public func jobRun(_ job: EventJob) async -> EventEffect { await perform(.jobRun, job) }

    /// A volume is to be chosen.
    /// - Parameter volumes: the names that can be chosen.
    /// - Returns: ``EventEffect/volumeName`` is one of them, or nil: then the choice is the daemon's.
    public func newVolume(_ job: EventJob, volumes: [String]) async -> EventEffect {
        var effect = await perform(.newVolume, job)
        if let name = effect.volumeName, !volumes.contains(name) {
            let known = volumes.isEmpty ? "it has none" : volumes.joined(separator: ", ")
            host.write(
                "error: NewVolume: \"\(OneLine.escaping(name))\" is no volume of the pool \"\(job.pool)\" (\(known)): the daemon chooses",
                to: job.id)
            effect.volumeName = nil
        }
        return effect
    }

    /// The archived home on ``EventJob/volumeName`` has been purged.
    public func volumePurged(_ job: EventJob) async { _ = await perform(.volumePurged, job) }

    /// The job has ended; its handlers forget it.
    public func jobEnd(_ job: EventJob) async {
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
        let turn = clock.now + configuration.timeLimit
        return conclude(await binding.interpreter.perform(event, job, turn: turn), event, job)
    }

    /// Takes note of how an event went, and says what went wrong.
    private func conclude(
        _ result: Result<HandlerMessage.Reply, Interpreter.Loss>, _ event: EventName, _ job: EventJob
    ) -> EventEffect {
        let name = event.rawValue
        switch result {
        case .success(let reply):
            pauses.worked()
            bindings[job.id]?.events = reply.jobEvents
            bindings[job.id]?.isKnown = true
            if let error = reply.error {
                notice(
                    CoreNotice(
                        .error, "handlers: \(name) has failed: \(OneLine.escaping(error))", job: job.id))
            }
            return reply.effect
        case .failure(.late):
            say("\(name) had no turn within \(configuration.timeLimit): other handlers took too long", job.id)
        case .failure(.hung):
            lose(job.id, "\(name) did not return within \(configuration.timeLimit), and its interpreter is ended")
        case .failure(.died(let how)):
            lose(job.id, "the interpreter \(how) while \(name) ran")
        case .failure(.gone) where isStopping:
            // Nobody has lost it: it was to end.
            break
        case .failure(.gone), .failure(.failed):
            lose(job.id, "the interpreter was lost before \(name)")
        }
        return .none
    }

    private func lose(_ job: JobID, _ text: String) {
        bindings[job]?.hasLost = true
        say("\(text): the job goes on without handlers", job)
    }

    private func say(_ text: String, _ job: JobID) {
        host.write("error: \(text)", to: job)
        notice(CoreNotice(.error, "handlers: \(text)", job: job))
    }

    // MARK: - Interpreters

    /// The interpreter that new jobs get; a lost one is replaced first.
    private func usable() async -> Interpreter? {
        while let interpreter = current, !isStopping {
            let isGone = interpreter.isGone
            guard current === interpreter else { continue }
            guard isGone else { return interpreter }
            guard pauses.mayStart(at: clock.now) else { return nil }
            await serially { await self.replace(lost: interpreter) }
        }
        return nil
    }

    private func replace(lost interpreter: Interpreter) async {
        guard current === interpreter, !isStopping, pauses.mayStart(at: clock.now) else { return }
        if interpreter !== lastLost {
            lastLost = interpreter
            if let pause = pauses.lost(at: clock.now) {
                return notice(
                    CoreNotice(
                        .error,
                        """
                        handlers: \(pauses.losses) interpreters in a row were lost, so there are no handlers for \(pause); mend \
                        \(configuration.script.printable) and restart the handlers (scripts restart) to have them earlier
                        """))
            }
        }
        switch await loadHandlers() {
        case .success(let new): adopt(new)
        case .failure(let failure):
            adopt(nil)
            tell(failure, "scripting is off until the handlers are restarted (scripts restart)")
        }
    }

    /// Lets one change of the interpreter follow the other.
    func serially<Value: Sendable>(_ change: @escaping @Sendable () async -> Value) async -> Value {
        let before = lastChange
        let task = Task {
            await before?.value
            return await change()
        }
        lastChange = Task { _ = await task.value }
        return await task.value
    }

    /// New jobs get this one's handlers; the one before stays for as long as it has jobs.
    func adopt(_ interpreter: Interpreter?) {
        let before = current
        current = interpreter
        if let before { retire(before) }
    }

    /// How many jobs keep handlers that new jobs no longer get.
    var jobsWithOldHandlers: Int { bindings.values.count { $0.interpreter !== current && !$0.hasLost } }

    /// After the script was mended it is believed again.
    func forgetLosses() { pauses = InterpreterPauses() }

    private func unbind(_ job: JobID) {
        guard let binding = bindings.removeValue(forKey: job) else { return }
        retire(binding.interpreter)
    }

    /// Ends an interpreter that nobody needs any more.
    private func retire(_ interpreter: Interpreter) {
        let key = ObjectIdentifier(interpreter)
        guard interpreter !== current, leaving[key] == nil else { return }
        guard !bindings.values.contains(where: { $0.interpreter === interpreter }) else { return }
        leaving[key] = Task {
            await interpreter.end()
            self.leaving[key] = nil
        }
    }

    /// Ends all interpreters, and returns when they are gone.
    func endAll() async {
        let old = bindings.values.map(\.interpreter)
        bindings = [:]
        adopt(nil)
        old.forEach(retire)
        while let task = leaving.values.first { await task.value }
    }
}
