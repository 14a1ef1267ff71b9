import DaemonKit
import Provisioning

/// Asks the daemon that runs with the same settings.
struct DaemonControl {
    private let configuration: DaemonConfiguration

    init(_ configuration: DaemonConfiguration) { self.configuration = configuration }

    enum Provisioned {
        /// The daemon carried it out; nil when there was nothing to do.
        case daemon(ProvisioningExitCode?)
        case noDaemon
    }

    /// - Returns: nil when no daemon runs here.
    func status() async throws -> DaemonStatus? {
        switch try await ask(.status, timeout: .seconds(10)) {
        case .status(let status): status
        case nil: nil
        case .provisioned, .refused: throw Self.misunderstood
        }
    }

    func provision(_ key: AccountKey) async throws -> Provisioned {
        // As long as the job takes; its own time limits hold.
        let request = DaemonRequest.provision(uuid: key.uuid.description, dn: key.dn.description)
        switch try await ask(request, timeout: .seconds(24 * 3600)) {
        case .provisioned(let code): return .daemon(code.flatMap(ProvisioningExitCode.init))
        case .refused(let reason): throw CommandFailure(reason, cure: "see the daemon's log")
        case nil: return .noDaemon
        case .status: throw Self.misunderstood
        }
    }

    private func ask(_ request: DaemonRequest, timeout: Duration) async throws -> DaemonReply? {
        let socket = ControlServer.socketPath(in: configuration.runtimeDirectory)
        do {
            return try await ControlClient(socket: socket, timeout: timeout).ask(request, for: DaemonReply.self).first
        } catch {
            if case .notListening = error { return nil }
            let status: ProcessExitStatus = if case .notAllowed = error { .notAllowed } else { .failure }
            throw CommandFailure("\(error)", cure: "ask as root or as the daemon's own user", status: status)
        }
    }

    private static var misunderstood: CommandFailure {
        CommandFailure("the daemon answered something else", cure: "restart it: it may be of another version")
    }
}
