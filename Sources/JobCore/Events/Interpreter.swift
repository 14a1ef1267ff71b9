import EventLoop
import Glibc
import SystemPackage

/// One `python3` process and the handlers that it has loaded. It handles one event at a time; others wait for their turn, but not for ever.
///
///     loading ──loaded──► serving ──told to leave──► leaving ──exit──► gone
///        └──failed, too late──────────────────────────┘
///
/// A handler that does not return in time takes the whole process with it: nothing else ends it. What it said until then is in the report.
@MainActor final class Interpreter {
    /// Why an event was not handled.
    enum Loss: Error, Hashable, Sendable {
        /// The process had ended, or was to end, before the event had its turn.
        case gone
        /// The event had no turn in time.
        case late
        /// The handler did not return in time.
        case hung
        /// The process ended while the handler ran: how.
        case died(String)
        /// The script could not be loaded: why.
        case failed(String)
    }

    private enum State { case loading, serving, leaving, gone }

    /// What the process is doing, and who waits for it.
    private struct Exchange {
        var number: Int
        /// Nil while the script is loaded.
        var event: EventName?
        var continuation: CheckedContinuation<Result<HandlerMessage.Reply, Loss>, Never>
        var reply: HandlerMessage.Reply?
        /// Whether the handler has been called.
        var hasBegun = false
        /// Whether everything that the handler wrote has come.
        var isReportComplete = false
    }

    private struct Waiter {
        var number: Int
        var continuation: CheckedContinuation<Bool, Never>
    }

    /// How much of what the handlers of one event write is passed on, in bytes.
    static let reportLimit = 64 * 1024
    /// Messages are far shorter.
    private static let longestMessage = 1 << 20

    let configuration: EventConfiguration
    private let host: any EventHandlerHost
    let clock: any SteadyClock
    private let notice: NoticeHandler
    private let word: String
    /// The events of the daemon for which there is a handler.
    private(set) var daemonEvents: Set<EventName> = []
    private var state = State.loading
    private var child: ChildProcess?
    private(set) var session: ScriptSession?
    private var life: Task<Void, Never>?
    private var pressure: Task<Void, Never>?
    private var report: ReportStream
    private var unread: [UInt8] = []
    private var count = 0
    private var isBusy = false
    private var current: Exchange?
    private var waiters: [Waiter] = []

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

    // MARK: - For the handlers' owner

    /// Whether it can take events.
    var isGone: Bool { state == .leaving || state == .gone }

    /// Starts the process and lets it run the script. Called once.
    /// - Throws: ``Loss/failed(_:)`` with the words of Python or of the system.
    func load() async throws(Loss) {
        let child: ChildProcess
        do throws(ScriptError) {
            child = try await start()
        } catch {
            state = .gone
            throw .failed("the interpreter could not be started: \(error)")
        }
        life = Task { await stay(with: child) }
        let result = await exchange(nil, job: nil)
        switch result {
        case .success(let reply):
            guard let error = reply.error else { return }
            leave(atOnce: false)
            throw .failed(error)
        case .failure(.hung):
            throw .failed("it was not loaded within \(configuration.timeLimit)")
        case .failure(.died(let how)):
            throw .failed("the interpreter \(how) while it was loaded")
        case .failure(let loss):
            throw loss
        }
    }

    /// Lets the handler of an event run, when it is its turn.
    /// - Parameter turn: until when it waits for it.
    func perform(
        _ event: EventName, _ job: EventJob?, turn: ContinuousClock.Instant
    ) async -> Result<HandlerMessage.Reply, Loss> {
        guard state == .serving else { return .failure(.gone) }
        if isBusy {
            guard await waitForTurn(until: turn) else { return .failure(state == .serving ? .late : .gone) }
        }
        isBusy = true
        defer { passTurn() }
        return await exchange(event, job: job)
    }

    /// Tells the process to leave, by the end of its input; and makes it after the grace.
    /// - Returns: when it is gone and everything it wrote has been passed on.
    func end() async {
        leave(atOnce: false)
        await life?.value
    }

    // MARK: - Turns

    private func waitForTurn(until end: ContinuousClock.Instant) async -> Bool {
        count += 1
        let number = count
        let timer = Task {
            do { try await clock.sleep(until: end, tolerance: nil) } catch { return }
            self.giveUp(waiter: number)
        }
        defer { timer.cancel() }
        return await withCheckedContinuation { waiters.append(Waiter(number: number, continuation: $0)) }
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
        let timer = Task {
            do { try await clock.sleep(until: end, tolerance: nil) } catch { return }
            self.timeLimitReached(number)
        }
        defer { timer.cancel() }
        return await withCheckedContinuation { continuation in
            current = Exchange(
                number: number, event: event, continuation: continuation, isReportComplete: event == nil)
            send(event.map { .event($0, number: number, job) } ?? .load(configuration, word: word))
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

    private func completeIfAllHasCome() {
        guard let exchange = current, exchange.isReportComplete, let reply = exchange.reply else { return }
        current = nil
        daemonEvents = reply.daemonEvents
        if state == .loading, reply.error == nil { state = .serving }
        exchange.continuation.resume(returning: .success(reply))
    }

    // MARK: - What comes from the process

    func received(message bytes: [UInt8]) {
        unread += bytes
        while let end = unread.firstIndex(of: UInt8(ascii: "\n")) {
            let line = unread[..<end]
            do { handle(try HandlerMessage(parsing: line)) } catch { return confused() }
            unread.removeSubrange(...end)
        }
        if unread.count > Self.longestMessage { confused() }
    }

    private func handle(_ message: HandlerMessage) {
        guard let exchange = current else { return }
        switch message {
        case .loaded(let events) where exchange.event == nil:
            current?.reply = HandlerMessage.Reply(effect: .none, jobEvents: [], daemonEvents: events)
            completeIfAllHasCome()
        case .failed(let traceback) where exchange.event == nil:
            current?.reply = HandlerMessage.Reply(
                effect: .none, error: traceback, jobEvents: [], daemonEvents: [])
            completeIfAllHasCome()
        case .done(let number, let reply) where exchange.event != nil && number == exchange.number:
            current?.reply = reply
            completeIfAllHasCome()
        case .call(let call) where exchange.event != nil:
            let number = exchange.number
            // On its own: the answer may take its time, and what the handler writes is to be read meanwhile.
            Task { await self.answer(call, in: number) }
        default: confused()
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

    /// Somebody but the module has written to the pipe of messages.
    private func confused() {
        unread = []
        lose(.died("was ended: what it said on the daemon's pipe is no message"))
        leave(atOnce: true)
    }

    func received(report bytes: [UInt8]) { pass(report.append(bytes)) }

    private func pass(_ pieces: [ReportStream.Piece]) {
        for piece in pieces {
            switch piece {
            case .line(let text, let job?): host.write(text, to: job)
            case .line("", nil): break
            case .line(let text, nil): notice(CoreNotice(.info, "handlers: \(text)"))
            case .began(let number) where current?.number == number: current?.hasBegun = true
            case .ended(let number) where current?.number == number:
                current?.isReportComplete = true
                completeIfAllHasCome()
            case .began, .ended: break
            }
        }
    }

    // MARK: - The process's end

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
                await self.signal(SIGTERM, SIGCONT)
                try await clock.sleep(until: clock.now + grace, tolerance: nil)
                await self.signal(SIGKILL)
            } catch {
                return
            }
        }
    }

    private func dismissWaiters() {
        for waiter in waiters { waiter.continuation.resume(returning: false) }
        waiters = []
    }

    private func signal(_ first: Int32, _ second: Int32? = nil) async {
        if let second { await session?.signal(first, second) } else { await session?.signal(first) }
    }

    /// The process is there. From here on until ``leaderIsToBeReaped()`` its session can be signalled.
    func began(_ child: ChildProcess, _ session: ScriptSession) {
        self.child = child
        self.session = session
    }

    /// Returns when no signal to it is on its way any more.
    func leaderIsToBeReaped() async {
        session = nil
        pressure?.cancel()
        await pressure?.value
    }

    func ended(_ how: String, survivors: [String]) {
        let wasExpected = state == .leaving
        let wasServing = state == .serving
        state = .gone
        pressure?.cancel()
        pass(report.finish())
        // Of an event whose handler was not called nothing has happened yet: another interpreter is as good.
        lose(current.map { $0.event == nil || $0.hasBegun } == false ? .gone : .died(how))
        dismissWaiters()
        if wasServing && !wasExpected {
            notice(CoreNotice(.error, "handlers: the interpreter of \(configuration.script.printable) \(how)"))
        }
        if !survivors.isEmpty {
            notice(
                CoreNotice(
                    .warning,
                    "handlers: processes that handlers had left behind were ended: \(survivors.joined(separator: ", "))"
                ))
        }
    }
}
