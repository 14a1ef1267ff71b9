import Daemon
import LDAP
import Glibc
import Provisioning

/// As whom the LDAP server knows the daemon, what it offers, and what the daemon may do there. Nothing is changed.
extension Checklist {
    /// - Returns: whether the server lets the daemon in.
    mutating func directory(_ configuration: DaemonConfiguration) async -> Bool {
        var isBound = false
        do {
            let connection = try await ServerList(configuration.engine.servers).connect(
                options: configuration.engine.connection)
            defer { connection.close() }
            isBound = true
            let identity = try await identity(connection)
            features(try await connection.rootDSE())
            try await contentSync(configuration, at: connection.server)
            guard try await base(configuration.engine.scope.base, connection) else { return isBound }
            let needs = DirectoryNeeds(configuration)
            let schema = try await schema(needs, connection)
            let listed = try await accounts(needs, connection)
            try await server(configuration, identity: identity, schema: schema, listed: listed, connection)
        } catch let error as LDAPError {
            add(
                "LDAP server", "\(error)", hint: "nothing can be provisioned until this is fixed",
                status: error.isRetryable ? .unavailable : .failure)
        } catch {
            add("LDAP server", "\(error)", hint: "nothing can be provisioned until this is fixed")
        }
        return isBound
    }

    /// - Returns: the DN as which the server knows the daemon; empty when it is anonymous.
    private mutating func identity(_ connection: LDAPConnection) async throws -> String {
        let identity = try await connection.whoAmI()
        guard !identity.isEmpty else {
            add(
                "LDAP server", "\(connection.server) treats the connection as anonymous, which may not write",
                hint: "set ADMIN_USER and ADMIN_PASSWORD_FILE, or SASL_MECHANISM = EXTERNAL")
            return ""
        }
        ok("LDAP server", "\(connection.server) answers \(identity)")
        return identity.hasPrefix("dn:") ? String(identity.dropFirst(3)) : identity
    }

    private mutating func features(_ root: RootDSE) {
        add(
            "assertions", root.offers(.assertion) ? "offered" : "not offered (RFC 4528)",
            hint: root.offers(.assertion) ? nil : "use a server that has them, such as OpenLDAP: claims rest on them")
        add(
            "paged results", root.offers(.pagedResults) ? "offered" : "not offered (RFC 2696)",
            hint: root.offers(.pagedResults) ? nil : "use a server that has them")
    }

    /// Asks for it: a server that has loaded the module offers it in its root DSE, even where no database has the overlay.
    private mutating func contentSync(_ configuration: DaemonConfiguration, at server: ServerAddress) async throws {
        let subject = "content sync"
        let detection = configuration.engine.timing.detection
        guard detection != .poll else {
            return remark(subject, "not used: DETECTION = poll")
        }
        let connection = try await LDAPConnection.open(server, options: configuration.engine.connection)
        let request = ContentSyncRequest(
            base: configuration.engine.scope.base, scope: .base, filter: .present("objectClass"), attributes: ["1.1"],
            mode: .refreshOnly)
        do throws(LDAPError) {
            for try await _ in connection.contentSync(request) {}
            ok(subject, "offered: changes are noticed at once")
        } catch {
            switch error.code {
            case .unavailableCriticalExtension:
                let effect = detection == .auto ? "changes are noticed only by polling" : "changes are not noticed"
                add(
                    subject, "not offered for \(request.base) (RFC 4533): \(effect)",
                    hint: "load the overlay syncprov (prov-backup-rsnapshot(8), LDAP SERVER), or set DETECTION = poll")
            // The entry itself is looked for next.
            case .noSuchObject: remark(subject, "is not known: \(request.base) cannot be read")
            default: throw error
            }
        }
    }

    // MARK: - What the daemon sees

    /// - Returns: whether it is worth while to look below.
    private mutating func base(_ base: DN, _ connection: LDAPConnection) async throws -> Bool {
        let hidden = DirectoryNeeds.operational
        guard let entry = try await connection.entry(at: base, attributes: hidden) else {
            add(
                "accounts", "\(base) is not there, or may not be seen",
                hint: "check SERVICE_SUBTREE, ADMIN_USER, and the directory's access rules")
            return false
        }
        let missing = hidden.filter { entry[$0].isEmpty }
        if !missing.isEmpty {
            add(
                "accounts", "\(names(missing)) of \(base) cannot be read, so this is not the daemon's own identity",
                hint:
                    "check ADMIN_USER, and let the access rules give them to it (prov-backup-rsnapshot(8), LDAP SERVER)"
            )
        }
        return true
    }

    private mutating func schema(_ needs: DirectoryNeeds, _ connection: LDAPConnection) async throws
        -> ServerSchema?
    {
        let place = try await connection.entry(at: .root, attributes: ["subschemaSubentry"])?.text("subschemaSubentry")
        let entry = try await connection.entry(
            at: try DN(parsing: place ?? "cn=Subschema"), attributes: ServerSchema.attributes)
        guard let schema = entry.flatMap(ServerSchema.init) else {
            remark("schema", "is not known: the server does not show it to the daemon")
            return nil
        }
        let attributes = needs.all.filter { schema.names(of: $0) == nil }
        let dates = needs.dates.contains { schema.names(of: $0) != nil } ? [] : needs.dates
        let classes = needs.classes.filter { !schema.knows(class: $0) }
        let missing = (attributes + dates).map(\.spelling) + classes
        add(
            "schema",
            missing.isEmpty
                ? "has all attributes and classes that are used"
                : "the server does not know \(missing.joined(separator: ", "))",
            hint: missing.isEmpty
                ? nil : "load the schema (prov-backup-rsnapshot(8), LDAP SERVER), or correct [Attributes]")
        return schema
    }

    /// Lists them as a backup run does, and tries the rights on the first one.
    /// - Returns: how many there are; nil when they could not be listed.
    private mutating func accounts(_ needs: DirectoryNeeds, _ connection: LDAPConnection) async throws -> Int? {
        let scope = needs.scope
        func first(_ scope: WatchScope) async throws(LDAPError) -> Entry? {
            let request = SearchRequest(
                base: scope.base, filter: scope.accounts, attributes: scope.names.requested, pageSize: 1)
            for try await entry in connection.search(request) { return entry }
            return nil
        }
        let own = try await first(scope)
        // Rights do not depend on the host.
        guard let entry = try await own == nil ? first(scope.ofAllHosts) : own else {
            remark("accounts", "there is none yet below \(scope.base), so the rights cannot be tried")
            return 0
        }
        guard let status = AccountStatus(entry, names: scope.names) else {
            add(
                "accounts", "\(entry.dn) is seen, and its mode, state, entryUUID or entryCSN cannot be read",
                hint: "let the access rules give them to the daemon (prov-backup-rsnapshot(8), LDAP SERVER)")
            return nil
        }
        if own == nil {
            remark("accounts", "there is no account of this daemon yet below \(scope.base)")
        } else {
            ok("accounts", "can be read, for instance \(status.dn)")
        }
        try await rights(on: status.dn, needs, connection)
        return try await count(scope, connection)
    }

    private mutating func count(_ scope: WatchScope, _ connection: LDAPConnection) async throws -> Int? {
        var (count, ofOtherGroup): (Int, Int) = (0, 0)
        var example: DN?
        let (number, group): (AttributeName, AttributeName) = ("uidNumber", "gidNumber")
        do throws(LDAPError) {
            let request = SearchRequest(base: scope.base, filter: scope.accounts, attributes: [number, group])
            for try await entry in connection.search(request) {
                count += 1
                guard entry[number] != entry[group] else { continue }
                ofOtherGroup += 1
                example = example ?? entry.dn
            }
            if let example {
                remark(
                    "groups",
                    """
                    \(HealthReport.accounts(ofOtherGroup)), such as \(example): \(group) is not \(number); accounts of one group can read what is open to \
                    the group; give each its own number, unless that is meant
                    """)
            }
            return count
        } catch {
            guard [.sizeLimitExceeded, .adminLimitExceeded, .timeLimitExceeded].contains(error.code) else {
                throw error
            }
            add(
                "size limit", "the accounts cannot be listed, so there are no backups: \(error.code)",
                hint: Self.limitHint)
            return nil
        }
    }

    // MARK: - What the daemon may do

    /// Asks for a change that cannot come about: to delete a value that is not there, and to add one. The server looks at the rights to do both
    /// first, and then refuses the whole because of the first.
    private mutating func rights(
        on account: DN, _ needs: DirectoryNeeds, _ connection: LDAPConnection
    ) async throws {
        let absent = AttributeValue("-2147483647")
        for name in needs.written {
            do throws(LDAPError) {
                try await connection.modify(account, [.delete(name, absent), .add(name, "0")])
            } catch {
                switch error.code {
                case .noSuchAttribute: ok("rights", "\(name) can be written")
                // The schema has been looked at.
                case .undefinedAttributeType: break
                case .insufficientAccessRights:
                    add(
                        "rights", "\(name) cannot be written",
                        hint: "let the access rules give it to the daemon (prov-backup-rsnapshot(8), LDAP SERVER)")
                case .referral,
                    .unwillingToPerform where error.diagnostic.contains("shadow context"):
                    let provider = error.referrals.isEmpty ? "its provider" : error.referrals.joined(separator: " or ")
                    return add(
                        "rights",
                        "\(connection.server) is a replica, which takes no changes: claims and outcomes cannot be written",
                        hint: "put \(provider) first in SERVER")
                case .invalidAttributeSyntax, .constraintViolation:
                    remark("rights", "whether \(name) can be written is not known: \(error.code)")
                default: throw error
                }
            }
        }
    }

    // MARK: - How the server is set up

    /// Size limit and indexes: as far as they are not known from the outside, cn=config has to say.
    private mutating func server(
        _ configuration: DaemonConfiguration, identity: String, schema: ServerSchema?, listed: Int?,
        _ connection: LDAPConnection
    ) async throws {
        let base = configuration.engine.scope.base
        var server = try await Self.read(connection, base)
        if server == nil, let own = try? await configuration.asRoot(connection.server) {
            defer { own.close() }
            server = try await Self.read(own, base)
        }
        limit(server?.limit(of: identity), identity, listed: listed)
        glue(server, configuration)
        indexes(server, schema, configuration)
    }

    private static func read(_ connection: LDAPConnection, _ base: DN) async throws -> ServerConfiguration? {
        let request = SearchRequest(
            base: try DN(parsing: ServerConfiguration.base), filter: ServerConfiguration.filter,
            attributes: ServerConfiguration.attributes, pageSize: 0)
        do throws(LDAPError) {
            return ServerConfiguration(try await connection.search(request).all(), holding: base)
        } catch {
            guard !error.isRetryable else { throw error }
            // It is not there, or the daemon may not read it.
            return nil
        }
    }

    private static let limitHint =
        "give the daemon's DN size=unlimited size.prtotal=unlimited (prov-backup-rsnapshot(8), LDAP SERVER), or correct ADMIN_USER"

    private mutating func limit(_ limit: ServerConfiguration.Limit?, _ identity: String, listed: Int?) {
        let subject = "size limit"
        let isListed = lines.contains { $0.subject == subject }
        switch limit {
        case .unlimited?: if !isListed { ok(subject, "none for \(identity)") }
        case .entries(let count)?:
            if !isListed { add(subject, "\(identity) is given \(count) entries at most", hint: Self.limitHint) }
        case .undecided, nil:
            guard !isListed else { return }
            // More than the limit that a server has by itself.
            if let listed, listed > 500 { return ok(subject, "\(listed) accounts can be listed") }
            let reason = if case .undecided(let rule)? = limit { rule } else { "cn=config cannot be read" }
            let accounts = HealthReport.accounts(listed ?? 0)
            remark(
                subject,
                "is not known: a list of \(accounts) does not reach it (\(reason)); on the directory server: slapcat -n 0 | grep -A2 olcLimits"
            )
        }
    }

    /// Content Sync answers at the accounts' base, and does not tell of databases below it.
    private mutating func glue(_ server: ServerConfiguration?, _ configuration: DaemonConfiguration) {
        guard let missed = server?.missedBySync, !missed.isEmpty, configuration.engine.timing.detection != .poll else {
            return
        }
        add(
            "syncprov",
            "changes in \(missed.joined(separator: " and ")), a subordinate database, are noticed only by the next relist",
            hint:
                "configure overlay glue before overlay syncprov (slapd-config(5), olcSubordinate), or set DETECTION = poll"
        )
    }

    private mutating func indexes(
        _ server: ServerConfiguration?, _ schema: ServerSchema?, _ configuration: DaemonConfiguration
    ) {
        let subject = "indexes"
        guard let server else {
            return remark(
                subject,
                "is not known: cn=config cannot be read (prov-backup-rsnapshot(8), LDAP SERVER); on the directory server: slapcat -n 0 | grep olcDbIndex"
            )
        }
        let missing = DirectoryNeeds(configuration).indexed.filter { name in
            server.indexed.isDisjoint(with: schema?.names(of: name) ?? [name.spelling.lowercased()])
        }
        add(
            subject,
            missing.isEmpty
                ? "all that searches need" : "none for \(names(missing)): searches look through all entries",
            hint: missing.isEmpty ? nil : "add them, kind eq (prov-backup-rsnapshot(8), LDAP SERVER)")
    }

    private func names(_ attributes: [AttributeName]) -> String {
        attributes.map(\.spelling).joined(separator: ", ")
    }
}

/// What the service uses of the directory.
private struct DirectoryNeeds {
    /// Those that the server keeps by itself.
    static let operational: [AttributeName] = ["entryUUID", "entryCSN"]

    let scope: WatchScope
    let written: [AttributeName]
    /// Searches by these shall not look through all entries.
    let indexed: [AttributeName]
    /// One of them is enough.
    let dates: [AttributeName]
    let classes: [String]
    private let read: [AttributeName]

    init(_ configuration: DaemonConfiguration) {
        scope = configuration.engine.scope
        let names = scope.names
        let backups = configuration.script == nil ? configuration.backupJobs : nil
        written =
            [names.mode, names.state, names.returnValue, names.claim].compactMap(\.self)
            + (backups?.writtenAttributes ?? [])
        dates = names.dates
        read =
            names.requested.filter { !Self.operational.contains($0) && !names.dates.contains($0) }
            + (backups?.readAttributes ?? configuration.script?.attributes ?? [])
        indexed =
            ["objectClass"] + Self.operational + [names.mode, names.state] + (backups == nil ? [] : ["uid"])
            + (scope.hosts == nil ? [] : [names.host])
        // A site with other names has classes of its own.
        let isPublished = names.mode == AttributeNames().mode
        classes =
            (isPublished ? ["sstProvisioning"] + (backups == nil ? [] : ["sstBackup"]) : [])
            + (names.claim == "provisioningClaim" ? ["provisioningClaimable"] : [])
    }

    /// Each once.
    var all: [AttributeName] {
        var seen: Set<AttributeName> = []
        return (read + written).filter { seen.insert($0).inserted }
    }
}

extension DaemonConfiguration {
    /// A connection as root over the server's own socket: on the directory's own machine root may usually read its configuration.
    fileprivate func asRoot(_ server: ServerAddress) async throws -> LDAPConnection? {
        guard case .local = server.endpoint, geteuid() == 0, engine.connection.credentials != .external else {
            return nil
        }
        var options = engine.connection
        options.credentials = .external
        return try await LDAPConnection.open(server, options: options)
    }
}
