import BackupService
import LDAP
import EventLoop
import JobCore
import Provisioning
import SystemPackage

/// A request of a schedule, a handler or an operator, in one line: `run NAME` or `backup LEVEL [UID…]`.
enum JobCommand: Hashable, Sendable, CustomStringConvertible {
    case run(String)
    case backup(String, accounts: [String])

    /// `run` also as Bacula's console has it: `run job=NAME yes`.
    init(parsing text: String) throws(RefusedCommand) {
        let words = text.split(whereSeparator: \.isWhitespace).map(String.init)
        switch words.first?.lowercased() {
        case "run": self = .run(try Self.name(words.dropFirst()))
        case "backup" where words.count > 1: self = .backup(words[1], accounts: Array(words[2...]))
        default:
            throw RefusedCommand(
                "\(String(reflecting: text)) is no command; write run job=NAME yes, or backup LEVEL [UID...]")
        }
    }

    /// Keywords in any case, the value also in quotes. Nothing is asked back, so `yes` may be left out; alone it is a name.
    private static func name(_ words: some Collection<String>) throws(RefusedCommand) -> String {
        var name: String?
        for word in words where words.count == 1 || word.lowercased() != "yes" {
            let parts = word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            let isName = parts.count == 1 || ["job", "jobname"].contains(parts[0].lowercased())
            guard isName, name == nil, let value = parts.last else {
                throw RefusedCommand(
                    "run does not know \(word); write run job=NAME yes, with the name of a section [Job NAME]")
            }
            name =
                value.count > 1 && value.first == "\"" && value.last == "\""
                ? String(value.dropFirst().dropLast()) : String(value)
        }
        guard let name, !name.isEmpty else {
            throw RefusedCommand(
                "run does not say which job; write run job=NAME yes, with the name of a section [Job NAME]")
        }
        return name
    }

    var description: String {
        switch self {
        case .run(let name): "run \(name)"
        case .backup(let level, let accounts): (["backup", level] + accounts).joined(separator: " ")
        }
    }
}

/// What handlers are told of this server and of the LDAP service.
struct EventSurroundings: Sendable {
    private let storage: String
    private let places: HomePlaces
    private let resource: CatalogResource

    init(_ engine: Engine.Configuration, _ places: HomePlaces) {
        storage = ThisHost.name
        self.places = places
        var bindDN = ""
        if case .simple(let dn, _) = engine.connection.credentials { bindDN = dn.description }
        var (address, socket, port) = ("", "", 0)
        switch engine.servers.first?.endpoint {
        case .tcp(let host, let number, _): (address, port) = (host, Int(number))
        case .local(let path): socket = path
        case nil: break
        }
        resource = CatalogResource(
            base: engine.scope.base.description, address: address, bindDN: bindDN, socket: socket, port: port,
            vendor: "LDAP")
    }

    /// - Parameter volume: nil: the one that holds the account's home; for jobs without an account the first one.
    func describe(_ job: Job, _ status: JobStatus, volume: String?) async -> EventJob {
        let places = places
        let account = [.backup, .provisioning].contains(job.type) ? job.client : nil
        let facts = await BlockingWork.run { () -> VolumeFacts? in
            let volume = volume.map { FilePath($0) } ?? places.volume(ofAccount: account)
            return volume.flatMap { places.facts(of: $0) }
        }
        return EventJob(
            job, status: status, levels: job.type == .backup ? SnapshotLevel.allCases.map(\.rawValue) : [],
            pool: facts?.pool.name ?? "", volumes: facts?.pool.volumes.count ?? 0, storage: storage,
            catalog: resource.base, mediaType: facts?.mediaType ?? "", catalogResource: resource)
    }
}
