import Daemon
import EventLoop
import Glibc
import JobCore
import SystemPackage

/// What a script's `report` says over the report socket.
struct ReportRequest: Codable {
    /// By which the script proves of which job it speaks.
    let token: String
    let message: ReporterMessage
}

/// What it is answered.
enum ReportReply: Codable, Hashable {
    case taken
    /// The reason, with its hint.
    case refused(String)
}

/// Hears what scripts report on their own jobs (specification: rows.md L6, L8).
///
/// The socket is open to every user, since a script may run as any; the registry judges token and user. It has limits of its own, so that no
/// flood here keeps the control socket from its clients.
struct ReportServer: Sendable {
    /// The socket's file, as scripts find it in `PROV_REPORT_SOCKET`.
    let path: FilePath
    /// What keeps scripts of other users from reporting, and the hint; nil when nothing does.
    let notice: String?
    private let server: ControlServer

    /// The socket's place in a runtime directory.
    static func socketPath(in directory: FilePath) -> FilePath { directory.appending("report.sock") }

    /// Starts to listen beside the lock's file.
    /// - Parameter timeLimit: how long a client may take to send its report, and then to read the answer.
    init(
        under lock: InstanceLock, registry: JobRegistry, timeLimit: Duration = .seconds(3)
    ) async throws(ControlServerError) {
        let directory = lock.path.removingLastComponent()
        let path = Self.socketPath(in: directory)
        self.path = path
        notice = await BlockingWork.run { Self.closedDirectory(above: path) }.map {
            "scripts that run as another user cannot report: they cannot pass \($0); run: chmod o+x \($0.shellWord)"
        }
        server = try await ControlServer(under: lock, at: path, admission: .everybody, timeLimit: timeLimit) {
            await Self.answer($0, registry)
        }
    }

    /// Sends every client away and removes the socket's file.
    func stop() async { await server.stop() }

    @MainActor private static func answer(_ request: ControlRequest, _ registry: JobRegistry) -> ControlReply {
        do {
            guard let user = request.user else { return .refusal("the kernel does not say who reports") }
            let report = try request.decode(ReportRequest.self)
            do {
                try registry.report(report.message, token: report.token, user: user)
                return try ControlReply(encoding: ReportReply.taken)
            } catch let refusal as ReporterRefusal {
                return try ControlReply(encoding: ReportReply.refused(refusal.description))
            }
        } catch {
            return .refusal("the report is not understood: use the reporter of the same version as the daemon")
        }
    }

    /// The first directory on the way to the socket that other users cannot pass.
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
