import EventLoop
import Glibc
import SystemPackage

/// One `python3` process and its loaded handlers. It handles one event at a time; others wait for their turn.
///
///     loading ──loaded──► serving ──told to end──► leaving ──exit──► gone
///        └──failed, too late─────────────────────────┘
///
/// A handler that does not return in time costs the whole process, because it cannot be interrupted. Its output until
/// then is in the report.
@MainActor final class Interpreter {
    /// Why an event was not handled.
    enum Loss: Error, Hashable, Sendable {
        /// The process had ended, or was ending, before the event had its turn.
        case gone
        /// The event did not get its turn before its deadline.
        case late
        /// The handler did not return in time.
        case hung
        /// The process ended while the handler ran; contains how.
        case died(String)
    }

    private enum State { case loading, serving, leaving, gone }

    /// The exchange in progress and its waiter.
    private struct Exchange {
        var number: Int
        /// The event that is handled; nil while the script is being loaded.
        var event: EventName?
        var continuation: CheckedContinuation<Result<HandlerMessage.Reply, Loss>, Never>
        var reply: HandlerMessage.Reply?
        /// Whether the handler has been called.
        var hasBegun = false
        /// Whether the whole output of the handler has arrived.
        var isReportComplete = false
    }

    /// How many bytes of output are passed on per event.
    static let reportLimit = 64 * 1024
    /// Much longer than any message.
    private static let longestMessage = 1 << 20

    private let configuration: EventConfiguration
    private let host: any EventHandlerHost
    private let clock: any SteadyClock
    private let notice: NoticeHandler
    private let word: String
    /// The events of the daemon that have a handler.
    private(set) var daemonEvents: Set<EventName> = []
    private var state = State.loading
    private var child: ChildProcess?
    /// What handlers start as well; until the process is about to be reaped.
    private var tree: ProcessTree?
    private var life: Task<Void, Never>?
    private var pressure: Task<Void, Never>?
    private var report: ReportStream
    private var unread: [UInt8] = []
    private var count = 0
    private var isBusy = false
    private var current: Exchange?
    /// Events that wait for their turn.
    private(set) var waiters: [(number: Int, continuation: CheckedContinuation<Bool, Never>)] = []

    init(
        configuration: EventConfiguration, host: any EventHandlerHost, clock: any SteadyClock,
        notice: @escaping NoticeHandler
    ) {
        self.configuration = configuration
        self.host = host
        self.clock = clock
        self.notice = notice
        var random = SystemRandomNumberGenerator()
        word = String(random.next(), radix: 36) + String(random.next(), radix: 36)
        report = ReportStream(word: word, limit: Self.reportLimit)
    }

    // MARK: - Requests

    /// Whether it has ended or is ending.
    var isGone: Bool { state == .leaving || state == .gone }

    /// Starts the process and loads the script. Called once.
    /// - Returns: why it could not be loaded: one line, or Python's traceback; nil: it was.
    func load() async -> String? {
        let process: ScriptProcess
        do throws(ScriptError) {
            process = try await start()
        } catch {
            state = .gone
            return "the interpreter could not be started: \(error)"
        }
        life = Task { await stay(with: process) }
        switch await exchange(nil, job: nil) {
        case .success(let reply):
            return reply.error
        case .failure(.hung):
            return "it was not loaded within \(configuration.timeLimit)"
        case .failure(.died(let how)):
            return "the interpreter \(how) while it was loaded"
        case .failure(.gone), .failure(.late):
            return "the interpreter was ended while it was loaded"
        }
    }

    /// Runs the handler of an event when it is its turn.
    /// - Parameters:
    ///   - deadline: the end of the wait for the turn; nil: none, since every handler before it has a time limit.
    ///   - begins: called with the time of the wait when it is its turn.
    func perform(
        _ event: EventName, _ job: EventJob?, before deadline: ContinuousClock.Instant? = nil,
        begins: (Duration) -> Void = { _ in }
    ) async -> Result<HandlerMessage.Reply, Loss> {
        guard state == .serving else { return .failure(.gone) }
        let asked = clock.now
        if isBusy {
            guard await waitForTurn(until: deadline) else { return .failure(state == .serving ? .late : .gone) }
        }
        isBusy = true
        defer { passTurn() }
        begins(clock.now - asked)
        return await exchange(event, job: job)
    }

    /// Ends the process by closing its input, and by signals after the grace period.
    /// - Returns: when the process has ended and its output was passed on.
    func end() async {
        leave(atOnce: false)
        await life?.value
    }

    // MARK: - The process

    /// The complete environment: nothing is inherited.
    private static let environment = [
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": "/",
    ]

    /// Starts the process and reads its output.
    ///
    /// - It is isolated from the user's Python configuration (`-I`), writes no compiled files (`-B`), and uses UTF-8.
    /// - Standard input is our pipe, standard output is for messages and standard error for reports; the module
    ///   rearranges them before any handler runs.
    private func start() async throws(ScriptError) -> ScriptProcess {
        let host = configuration.moduleDirectory.appending(Self.hostScript)
        let invocation = ScriptInvocation(
            executable: configuration.interpreter, arguments: ["-I", "-B", "-X", "utf8", host.string],
            environment: Self.environment.merging(configuration.environment) { $1 },
            timeLimit: configuration.timeLimit, grace: configuration.grace)
        let process = try await ScriptRunner.retrying { () throws(ScriptError) in
            try await BlockingWork.run(on: .starts) { () throws(ScriptError) in
                try ScriptProcess(
                    starting: invocation, input: .open, output: .pipe { self.received(message: $0) },
                    error: .pipe { self.received(report: $0) })
            }
        }
        child = process.child
        tree = process.tree
        try await process.watch(invocation)
        return process
    }

    /// Waits for the end of the process and ends its leftover processes.
    private func stay(with process: ScriptProcess) async {
        let child = process.child
        await child.exited()
        let leftovers = await process.tree.sweep(grace: configuration.grace.boundedForSleep, by: clock)
        await BlockingWork.run { process.removeCgroup() }
        // No signal may be on its way when the process is reaped.
        self.tree = nil
        pressure?.cancel()
        await pressure?.value
        switch await child.reap() {
        case .exited(let code): ended("ended with exit code \(code)", leftovers: leftovers)
        case .signaled(let signal): ended("was ended by signal \(signal)", leftovers: leftovers)
        case .unknown: ended("ended with an unknown status", leftovers: leftovers)
        }
    }

    // MARK: - Turns

    private func waitForTurn(until end: ContinuousClock.Instant?) async -> Bool {
        count += 1
        let number = count
        let timer = end.map { at($0) { self.giveUp(waiter: number) } }
        defer { timer?.cancel() }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { waiters.append((number, $0)) }
        } onCancel: {
            Task { @MainActor in self.giveUp(waiter: number) }
        }
    }

    /// Calls a body at a time, unless the task is cancelled before.
    private func at(_ time: ContinuousClock.Instant, _ body: @escaping @MainActor () -> Void) -> Task<Void, Never> {
        Task {
            do { try await clock.sleep(until: time, tolerance: nil) } catch { return }
            body()
        }
    }

    private func giveUp(waiter number: Int) {
        guard let place = waiters.firstIndex(where: { $0.number == number }) else { return }
        waiters.remove(at: place).continuation.resume(returning: false)
    }

    private func passTurn() {
        if state == .serving, !waiters.isEmpty {
            waiters.removeFirst().continuation.resume(returning: true)
        } else {
            isBusy = false
        }
    }

    // MARK: - One exchange

    /// - Parameter event: nil to load the script.
    private func exchange(
        _ event: EventName?, job: EventJob?
    ) async -> Result<HandlerMessage.Reply, Loss> {
        guard state == .serving || state == .loading else { return .failure(.gone) }
        count += 1
        let number = count
        let end = clock.now + configuration.timeLimit.boundedForSleep
        let timer = at(end) { self.timeLimitReached(number) }
        defer { timer.cancel() }
        return await withCheckedContinuation { continuation in
            current = Exchange(
                number: number, event: event, continuation: continuation, isReportComplete: event == nil)
            guard let event else { return send(.load(configuration, number: number, word: word)) }
            send(.event(event, number: number, job))
        }
    }

    private func send(_ request: HandlerRequest) {
        do {
            child?.write(try request.line())
        } catch {
            lose(.died("was ended: a request could not be written as JSON (\(error))"))
            leave(atOnce: true)
        }
    }

    private func timeLimitReached(_ number: Int) {
        guard current?.number == number else { return }
        lose(.hung)
        leave(atOnce: true)
    }

    private func lose(_ loss: Loss) {
        current?.continuation.resume(returning: .failure(loss))
        current = nil
    }

    private func completeIfFinished() {
        guard let exchange = current, exchange.isReportComplete, let reply = exchange.reply else { return }
        current = nil
        daemonEvents = reply.daemonEvents
        if state == .loading, reply.error == nil { state = .serving }
        exchange.continuation.resume(returning: .success(reply))
    }

    // MARK: - Input from the process

    private func received(message bytes: [UInt8]) {
        unread += bytes
        while let end = unread.firstIndex(of: UInt8(ascii: "\n")) {
            let line = unread[..<end]
            unread = Array(unread[(end + 1)...])
            do { handle(try HandlerMessage(parsing: line)) } catch { return invalidMessage() }
        }
        if unread.count > Self.longestMessage { invalidMessage() }
    }

    private func handle(_ message: HandlerMessage) {
        guard let exchange = current else { return }
        switch message {
        case .done(let number, let reply) where number == exchange.number:
            current?.reply = reply
            completeIfFinished()
        case .call(let call) where exchange.event != nil:
            let number = exchange.number
            // In a task, because the answer may take long and the handler's output must be read meanwhile.
            Task { await self.answer(call, in: number) }
        default: invalidMessage()
        }
    }

    private func answer(_ call: HandlerMessage.Call, in number: Int) async {
        let answer: HandlerRequest =
            switch call {
            case .run(let command):
                switch await host.run(command) {
                case .success(let job): .answer(Int64(clamping: job.number))
                case .failure(let refusal): .answer(-1, error: refusal.description)
                }
            case .cancel(let job): .answer(await host.cancel(job) ? 1 : 0)
            case .volumeExists(let name): .answer(await host.volumeExists(name) ? 1 : 0)
            }
        guard current?.number == number else { return }
        send(answer)
    }

    /// Other code than the module has written to the message pipe.
    private func invalidMessage() {
        unread = []
        lose(.died("was ended: it sent an invalid message"))
        leave(atOnce: true)
    }

    private func received(report bytes: [UInt8]) { pass(report.append(bytes)) }

    private func pass(_ pieces: [ReportStream.Piece]) {
        for piece in pieces {
            switch piece {
            case .line(let text, let job?): host.write(text, to: job, source: .handler)
            case .line("", nil): break
            case .line(let text, nil): notice(CoreNotice(.info, "handlers: \(text)"))
            case .began(let number) where current?.number == number: current?.hasBegun = true
            case .ended(let number) where current?.number == number:
                current?.isReportComplete = true
                completeIfFinished()
            case .began, .ended: break
            }
        }
    }

    // MARK: - End of the process

    private func leave(atOnce: Bool) {
        guard state == .loading || state == .serving else { return }
        state = .leaving
        child?.closeInput()
        dismissWaiters()
        let grace = configuration.grace.boundedForSleep
        let end = clock.now + grace
        pressure = Task {
            do {
                if !atOnce { try await clock.sleep(until: end, tolerance: nil) }
                await self.tree?.signal([SIGTERM, SIGCONT])
                try await clock.sleep(until: clock.now + grace, tolerance: nil)
                await self.tree?.signal([SIGKILL])
            } catch {
                return
            }
        }
    }

    private func dismissWaiters() {
        for waiter in waiters { waiter.continuation.resume(returning: false) }
        waiters = []
    }

    private func ended(_ how: String, leftovers: [String]) {
        let wasExpected = state == .leaving
        let wasServing = state == .serving
        state = .gone
        // Open jobs may still refer to this interpreter, which keeps no descriptors.
        child = nil
        pressure?.cancel()
        pass(report.finish())
        // An event whose handler was not called can be repeated with another interpreter.
        lose(current.map { $0.event == nil || $0.hasBegun } == false ? .gone : .died(how))
        dismissWaiters()
        if wasServing && !wasExpected {
            notice(CoreNotice(.error, "handlers: the interpreter of \(configuration.script.printable) \(how)"))
        }
        if !leftovers.isEmpty {
            notice(
                CoreNotice(
                    .warning,
                    "handlers: leftover processes of handlers were ended: \(leftovers.joined(separator: ", "))"
                ))
        }
    }
}
