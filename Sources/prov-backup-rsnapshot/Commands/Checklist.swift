import DaemonKit
import DirectoryClient
import DirectoryModel
import Provisioning

/// What has been looked at, printed as it is found.
struct Checklist {
    /// What the command ends with; nil when all is ok.
    private(set) var worst: ProcessExitStatus?

    mutating func ok(_ subject: String, _ finding: String) { add(subject, finding, cure: nil) }

    mutating func add(
        _ subject: String, _ finding: String, cure: String?, status: ProcessExitStatus = .failure
    ) {
        let line = "\(cure == nil ? "ok   " : "NOT  ") \(subject): \(finding)" + (cure.map { "; \($0)" } ?? "")
        print(OneLine.escaping(line))
        if cure != nil, worst == nil || worst == .failure { worst = status }
    }

    /// What is neither right nor wrong.
    func remark(_ subject: String, _ finding: String) { print(OneLine.escaping("      \(subject): \(finding)")) }

    mutating func add(_ subject: String, problem: SettingsProblem) {
        print(OneLine.escaping("\(problem.severity == .error ? "NOT  " : "warn ") \(subject): \(problem)"))
        if problem.severity == .error { worst = .wrongConfiguration }
    }

    mutating func directory(_ configuration: DaemonConfiguration) async {
        do {
            let connection = try await ServerList(configuration.engine.servers).connect(
                options: configuration.engine.connection)
            defer { connection.close() }
            let identity = try await connection.whoAmI()
            ok("directory", "\(connection.server) answers \(identity.isEmpty ? "anybody" : identity)")
            features(try await connection.rootDSE(), configuration.engine.timing.detection)
            try await accounts(configuration.engine.scope, connection)
        } catch let error as DirectoryError {
            add(
                "directory", "\(error)", cure: "nothing can be provisioned until this is mended",
                status: error.isRetryable ? .unavailable : .failure)
        } catch {
            add("directory", "\(error)", cure: "nothing can be provisioned until this is mended")
        }
    }

    private mutating func features(_ root: RootDSE, _ detection: Detection) {
        add(
            "assertions", root.offers(.assertion) ? "offered" : "not offered (RFC 4528)",
            cure: root.offers(.assertion) ? nil : "use a server that has them, such as OpenLDAP: claims rest on them")
        if root.offers(.contentSync) {
            ok("content sync", "offered: wishes are noticed at once")
        } else {
            add(
                "content sync", "not offered (RFC 4533)",
                cure: detection == .persist ? "load the overlay syncprov, or set DETECTION = auto" : nil)
        }
        add(
            "paged results", root.offers(.pagedResults) ? "offered" : "not offered (RFC 2696)",
            cure: root.offers(.pagedResults) ? nil : "use a server that has them")
    }

    private mutating func accounts(_ scope: WatchScope, _ connection: DirectoryConnection) async throws {
        guard try await connection.entry(at: scope.base, attributes: ["1.1"]) != nil else {
            add(
                "accounts", "\(scope.base) is not there, or may not be seen",
                cure: "check SERVICE_SUBTREE and the directory's access rules")
            return
        }
        let request = SearchRequest(
            base: scope.base, filter: scope.accounts, attributes: scope.names.requested, pageSize: 1)
        for try await entry in connection.search(request) {
            guard let status = AccountStatus(entry, names: scope.names) else {
                add(
                    "accounts", "\(entry.dn) is seen, and its mode, state, entryUUID or entryCSN cannot be read",
                    cure: "let the access rules give them to the daemon (etc/openldap/access.conf)")
                return
            }
            ok("accounts", "can be read, for instance \(status.dn)")
            try await rights(status, scope.names, connection)
            return
        }
        remark("accounts", "there is none yet that is ours below \(scope.base), so the rights cannot be tried")
    }

    /// Asks for a change that cannot come about: to delete a value that is not there. The server looks at the rights first.
    private mutating func rights(
        _ status: AccountStatus, _ names: AttributeNames, _ connection: DirectoryConnection
    ) async throws {
        let absent = AttributeValue("-2147483647")
        for name in [names.mode, names.state, names.returnValue, names.claim].compactMap(\.self) {
            do throws(DirectoryError) {
                try await connection.modify(status.dn, [.delete(name, absent)])
            } catch {
                switch error.code {
                case .noSuchAttribute: ok("rights", "\(name) can be written")
                case .undefinedAttributeType:
                    add("schema", "the server does not know \(name)", cure: "load etc/openldap/stoney-cloud.schema")
                case .insufficientAccessRights:
                    add(
                        "rights", "\(name) cannot be written",
                        cure: "let the access rules give it to the daemon (etc/openldap/access.conf)")
                default: throw error
                }
            }
        }
    }
}
