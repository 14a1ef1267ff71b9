import EventLoop
import Glibc
import SystemPackage

extension EventHandlers {
    /// Why there are no handlers.
    enum LoadFailure: Error, Hashable, Sendable {
        /// There is no script (specification: rows.md B1), which is not an error.
        case noScript
        /// The error and its hint, then Python's output line by line.
        case fault(String, details: [String] = [])
    }

    /// Loads `DirStartUp.py` if it exists (specification: rows.md B1). Called once, before the first event.
    public func start() async {
        await serially { await self.begin() }
    }

    /// Reloads the handlers (specification: rows.md B10). Running jobs keep the handlers they began with. If the
    /// script cannot be loaded, nothing changes.
    /// - Returns: the result for the operator.
    public func restart() async -> String {
        await serially { await self.reload() }
    }

    /// Calls the handler of the event Exit and ends the interpreters.
    public func stop() async {
        await serially { await self.finish() }
    }

    private func begin() async {
        guard !isStopping, current == nil else { return }
        do throws(LoadFailure) {
            await use(try await loadHandlers())
        } catch {
            report(error, "scripting is off")
        }
    }

    private func reload() async -> String {
        guard !isStopping else { return "the daemon is stopping: the handlers were not reloaded" }
        do throws(LoadFailure) {
            let interpreter = try await loadHandlers()
            forgetLosses()
            return await use(interpreter)
        } catch {
            if error == .noScript { adopt(nil) }
            let consequence = current == nil ? "scripting is off" : "a later job loads them again"
            return report(error, hasHandlers ? "the handlers are unchanged" : consequence)
        }
    }

    private func finish() async {
        guard !isStopping else { return }
        isStopping = true
        if let interpreter = current, interpreter.daemonEvents.contains(.exit) {
            let deadline = clock.now + configuration.grace
            let fault: String? =
                switch await interpreter.perform(.exit, nil, before: deadline) {
                case .success(let reply): reply.error.map { "Exit failed: \(OneLine.escaping($0))" }
                case .failure(.hung): "Exit did not return within \(configuration.timeLimit)"
                case .failure(.late): "Exit was not called: another handler is still running"
                case .failure(.died(let how)): "the interpreter \(how) while Exit ran"
                case .failure(.gone): "Exit was not called: the interpreter had been lost"
                }
            if let fault { note(.error, fault) }
        }
        await endAll()
    }

    @discardableResult func use(_ interpreter: Interpreter) async -> String {
        let script = configuration.script.printable
        let events = interpreter.daemonEvents
        fault = nil
        guard !events.isEmpty else {
            adopt(nil)
            await interpreter.end()
            let text = "\(script) was loaded and has no handlers, so scripting is off: call bacula.set_events(…) in it"
            fault = text
            note(.warning, text)
            return text
        }
        adopt(interpreter)
        let names = events.map(\.rawValue).sorted().joined(separator: ", ")
        let keeping = jobsWithOldHandlers
        let text =
            "\(script) was loaded, handlers for \(names)"
            + (keeping == 0 ? "" : "; \(keeping) jobs keep their old handlers")
        note(.info, text)
        return text
    }

    /// Reports why there are no handlers, or no new ones.
    @discardableResult func report(_ failure: LoadFailure, _ consequence: String) -> String {
        switch failure {
        case .noScript:
            fault = nil
            let text = "\(configuration.script.printable) does not exist: \(consequence)"
            note(.info, text)
            return text
        case .fault(let reason, let details):
            let text = "\(reason): \(consequence)"
            fault = text
            note(.error, text)
            for line in details { note(.error, line) }
            return ([text] + details).joined(separator: "\n")
        }
    }

    /// Starts an interpreter and loads the script.
    func loadHandlers() async throws(LoadFailure) -> Interpreter {
        let (script, python) = (configuration.script, configuration.interpreter)
        do throws(FileTrustError) {
            try await FileTrust.checkInBackground(script, as: .pythonScript)
        } catch {
            throw error.isAbsent && error.file == script ? .noScript : .fault("\(error)")
        }
        let isThere = await BlockingWork.run {
            python.isAbsolute && python.withPlatformString { access($0, X_OK) } == 0
        }
        guard isThere else {
            throw .fault(
                "\(python.printable) cannot be executed, and \(script.printable) needs it; install it (apt-get install python3)"
            )
        }
        do throws(FileTrustError) {
            try await FileTrust.checkInBackground(python)
        } catch {
            throw .fault("\(error)")
        }
        try await BlockingWork.run { [directory = configuration.moduleDirectory] () throws(LoadFailure) in
            try Interpreter.writeModules(into: directory)
        }
        let interpreter = Interpreter(configuration: configuration, host: host, clock: clock, notice: notice)
        guard let reason = await interpreter.load() else { return interpreter }
        await interpreter.end()
        let lines = reason.split(separator: "\n").map { OneLine.escaping(String($0)) }
        throw .fault(Self.summary(script, lines), details: lines.count > 1 ? lines : [])
    }

    /// The last line of a traceback and the last place in it.
    private static func summary(_ script: FilePath, _ traceback: [String]) -> String {
        let place = traceback.last { $0.hasPrefix("  File ") }.map { " (\($0.dropFirst(2)))" }
        return "\(script.printable) cannot be loaded: \(traceback.last ?? "")\(place ?? "")"
    }

    /// Checks the script's syntax with Python without running it.
    /// - Returns: the error; nil: none.
    /// - Throws: ``ScriptError`` if Python cannot be run.
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

extension Interpreter {
    /// The script that the interpreter runs.
    nonisolated static let hostScript = "bacula_host.py"

    /// The Python modules, which are embedded in this program and written into a directory before use, so that their
    /// versions match.
    private nonisolated static var modules: [(name: String, contents: [UInt8])] {
        [
            ("bacula.py", PackageResources.bacula_py), ("bacula_job.py", PackageResources.bacula_job_py),
            ("bacula_link.py", PackageResources.bacula_link_py), (hostScript, PackageResources.bacula_host_py),
        ]
    }

    /// Creates the directory if it does not exist, and writes each file as a whole.
    /// - Throws: if others could change the directory, or if it cannot be written.
    nonisolated static func writeModules(into directory: FilePath) throws(EventHandlers.LoadFailure) {
        let path = directory.printable
        if directory.withPlatformString({ mkdir($0, 0o700) }) != 0, errno != EEXIST {
            throw .fault(
                "\(path): cannot be created: \(Errno(rawValue: errno)); check that the directory above it exists and is writable"
            )
        }
        do throws(FileTrustError) {
            try FileTrust.check(directory, as: .directory)
        } catch {
            throw .fault("\(path): \(error.findingOfFile); \(error.hint)")
        }
        do throws(StateFileError) {
            for file in modules {
                try StateFile.replace(
                    directory.appending(file.name), with: String(decoding: file.contents, as: UTF8.self),
                    isDurable: false)
            }
        } catch {
            throw .fault("\(path): cannot be written: \(error); make room, or correct its owner")
        }
    }
}
