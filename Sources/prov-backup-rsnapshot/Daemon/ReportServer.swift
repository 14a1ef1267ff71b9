import Daemon
import EventLoop
import Glibc
import JobCore
import SystemPackage

/// A request of the command `report` over the report socket.
struct ReportRequest: Codable {
    /// Identifies the job of the script.
    let token: String
    let message: ReporterMessage
}

/// Receives the reports of scripts about their jobs (specification: rows.md L6, L8).
///
/// The socket is open to all users, because scripts may run as any user; the registry checks token and user. It has its own limits, so that many
/// reports do not delay clients of the control socket.
struct ReportServer: Sendable {
    /// For `PROV_REPORT_SOCKET`.
    let path: FilePath
    /// Why scripts of other users cannot report, with the hint; nil: they can.
    let notice: String?
    private let server: ControlServer

    /// The socket's place in a runtime directory.
    static func socketPath(in directory: FilePath) -> FilePath { directory.appending("report.sock") }

    /// Starts to listen in the directory of the lock.
    /// - Parameter timeLimit: for the client to send its report, and again to read the reply.
    init(
        under lock: InstanceLock, registry: JobRegistry, timeLimit: Duration = .seconds(3)
    ) async throws(CommandFailure) {
        let directory = lock.path.removingLastComponent()
        let path = Self.socketPath(in: directory)
        self.path = path
        notice = await BlockingWork.run { Self.closedDirectory(above: path) }.map {
            "scripts that run as another user cannot report: they cannot enter \($0); run: chmod o+x \($0.shellWord)"
        }
        server = try await ControlServer(under: lock, at: path, access: .everybody, timeLimit: timeLimit) {
            await Self.answer($0, registry)
        }
    }

    /// Disconnects every client and removes the socket's file.
    func stop() async { await server.stop() }

    @MainActor private static func answer(_ request: ControlRequest, _ registry: JobRegistry) -> ControlReply {
        guard let user = request.user, let report = try? request.decode(ReportRequest.self) else {
            return .refusal(
                CommandFailure(
                    "the report is not understood", hint: "use the reporter of the same version as the daemon",
                    status: .tryAgain))
        }
        do {
            try registry.report(report.message, token: report.token, user: user)
            return try ControlReply(done: true)
        } catch {
            return .refusal(CommandFailure("\(error)", hint: "nothing was reported", status: .notAllowed))
        }
    }

    /// The first directory of the path that other users cannot enter.
    private static func closedDirectory(above path: FilePath) -> FilePath? {
        var directory = FilePath("/")
        for component in path.removingLastComponent().components {
            directory.append(component)
            var status = stat()
            if stat(directory.string, &status) == 0, status.st_mode & S_IXOTH == 0 { return directory }
        }
        return nil
    }
}
