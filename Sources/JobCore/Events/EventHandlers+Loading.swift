import EventLoop
import Glibc
import SystemPackage

extension EventHandlers {
    /// Why there are no handlers.
    enum LoadFailure: Error, Hashable, Sendable {
        /// There is no script (specification: rows.md B1): nothing is wrong.
        case noScript
        /// What is wrong, and its hint; then, line by line, the words of Python.
        case fault(String, details: [String] = [])
    }

    /// Looks for `DirStartUp.py`, and runs it when it is there (specification: rows.md B1). Called once, before the first event.
    public func start() async {
        await serially { await self.begin() }
    }

    /// Loads the handlers anew (specification: rows.md B10). Running jobs keep those they began with. When the script cannot be loaded, everything stays as it is.
    /// - Returns: what came of it, for the one who asked.
    public func restart() async -> String {
        await serially { await self.loadAnew() }
    }

    /// Calls the handler of the event Exit, and ends the interpreters. Afterwards there are no handlers.
    public func stop() async {
        await serially { await self.finish() }
    }

    private func begin() async {
        guard !isStopping, current == nil else { return }
        switch await loadHandlers() {
        case .success(let interpreter): await take(interpreter)
        case .failure(let failure): tell(failure, "scripting is off")
        }
    }

    private func loadAnew() async -> String {
        guard !isStopping else { return "the daemon is about to end: the handlers were not loaded anew" }
        switch await loadHandlers() {
        case .success(let interpreter):
            forgetLosses()
            return await take(interpreter)
        case .failure(.noScript):
            adopt(nil)
            return tell(.noScript, "scripting is off")
        case .failure(let failure):
            return tell(failure, current == nil ? "scripting is off" : "the handlers stay as they were")
        }
    }

    private func finish() async {
        guard !isStopping else { return }
        isStopping = true
        if let interpreter = current, interpreter.daemonEvents.contains(.exit) {
            let turn = clock.now + configuration.grace
            switch await interpreter.perform(.exit, nil, turn: turn) {
            case .success(let reply):
                if let error = reply.error {
                    notice(CoreNotice(.error, "handlers: Exit has failed: \(OneLine.escaping(error))"))
                }
            case .failure(.hung):
                notice(CoreNotice(.error, "handlers: Exit did not return within \(configuration.timeLimit)"))
            case .failure(.late):
                notice(CoreNotice(.error, "handlers: Exit was not called: another handler is still at work"))
            case .failure(.died(let how)):
                notice(CoreNotice(.error, "handlers: the interpreter \(how) while Exit ran"))
            case .failure(.gone), .failure(.failed):
                notice(CoreNotice(.error, "handlers: Exit was not called: the interpreter was lost before"))
            }
        }
        await endAll()
    }

    @discardableResult private func take(_ interpreter: Interpreter) async -> String {
        let script = configuration.script.printable
        let events = interpreter.daemonEvents
        fault = nil
        guard !events.isEmpty else {
            adopt(nil)
            await interpreter.end()
            let text = "\(script) was loaded and has no handlers, so scripting is off: let it call bacula.set_events(…)"
            fault = text
            notice(CoreNotice(.warning, "handlers: \(text)"))
            return text
        }
        adopt(interpreter)
        let names = events.map(\.rawValue).sorted().joined(separator: ", ")
        let keeping = jobsWithOldHandlers
        let text =
            "\(script) was loaded, with handlers for \(names)"
            + (keeping == 0 ? "" : "; jobs that keep the handlers they began with: \(keeping)")
        notice(CoreNotice(.info, "handlers: \(text)"))
        return text
    }

    /// Says why there are no handlers, or no new ones.
    @discardableResult func tell(_ failure: LoadFailure, _ consequence: String) -> String {
        switch failure {
        case .noScript:
            fault = nil
            let text = "\(configuration.script.printable) is not there: \(consequence)"
            notice(CoreNotice(.info, "handlers: \(text)"))
            return text
        case .fault(let reason, let details):
            let text = "\(reason): \(consequence)"
            fault = text
            notice(CoreNotice(.error, "handlers: \(text)"))
            for line in details { notice(CoreNotice(.error, "handlers: \(line)")) }
            return ([text] + details).joined(separator: "\n")
        }
    }

    /// Starts an interpreter and lets it load the script.
    func loadHandlers() async -> Result<Interpreter, LoadFailure> {
        let script = configuration.script
        do throws(FileTrustError) {
            try await FileTrust.checkInBackground(script, as: .pythonScript)
        } catch {
            if error.isAbsent, error.file == script { return .failure(.noScript) }
            return .failure(.fault("\(error)"))
        }
        let python = configuration.interpreter
        let isThere = await BlockingWork.run {
            python.isAbsolute && python.withPlatformString { access($0, X_OK) } == 0
        }
        guard isThere else {
            return .failure(
                .fault(
                    "\(python.printable) cannot be run, and \(script.printable) needs it; install it (apt-get install python3)"
                ))
        }
        do throws(FileTrustError) {
            try await FileTrust.checkInBackground(python)
        } catch {
            return .failure(.fault("\(error)"))
        }
        do throws(HandlerModuleError) {
            let directory = configuration.moduleDirectory
            try await BlockingWork.run {
                Result { () throws(HandlerModuleError) in try HandlerModule.write(into: directory) }
            }.get()
        } catch {
            return .failure(.fault("\(error)"))
        }
        let interpreter = Interpreter(configuration: configuration, host: host, clock: clock, notice: notice)
        do throws(Interpreter.Loss) {
            try await interpreter.load()
            return .success(interpreter)
        } catch {
            await interpreter.end()
            guard case .failed(let why) = error else { return .failure(.fault("\(script.printable): \(error)")) }
            let lines = why.split(separator: "\n").map { OneLine.escaping(String($0)) }
            return .failure(.fault(Self.summary(script, lines), details: lines.count > 1 ? lines : []))
        }
    }

    /// The last line of a traceback, and the place that it names last.
    private static func summary(_ script: FilePath, _ traceback: [String]) -> String {
        let place = traceback.last { $0.hasPrefix("  File ") }.map { " (\($0.dropFirst(2)))" }
        return "\(script.printable) cannot be loaded: \(traceback.last ?? "")\(place ?? "")"
    }

    /// What Python says of the script's syntax; nothing of it is run.
    /// - Returns: nil when nothing is wrong.
    /// - Throws: ``ScriptError`` when Python cannot be asked.
    public static func syntaxFault(_ configuration: EventConfiguration) async throws(ScriptError) -> String? {
        let script = configuration.script
        let result = try await ScriptRunner().run(
            ScriptInvocation(
                executable: configuration.interpreter,
                arguments: [
                    "-I", "-B", "-X", "utf8", "-c",
                    "import sys; compile(open(sys.argv[1], 'rb').read(), sys.argv[1], 'exec')", script.string,
                ], timeLimit: .seconds(30), grace: .seconds(5)))
        guard result.termination != .exited(code: 0) else { return nil }
        let text = String(decoding: result.output.head + result.output.tail, as: UTF8.self)
        return summary(script, text.split(separator: "\n").map { OneLine.escaping(String($0)) })
    }
}
