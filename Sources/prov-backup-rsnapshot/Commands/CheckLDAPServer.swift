import BackupService
import Daemon
import LDAP
import Glibc
import Provisioning

/// Checks the LDAP server: the identity of the daemon, the features, the schema, the rights, and the configuration. Nothing is changed.
extension Checklist {
    /// - Returns: whether the bind succeeded.
    mutating func ldapServer(_ configuration: DaemonConfiguration) async -> Bool {
        var isBound = false
        do {
            let connection = try await configuration.connectOnce()
            defer { connection.close() }
            isBound = true
            let identity = try await identity(connection)
            await others(than: connection.server, configuration.engine)
            features(try await connection.features())
            try await contentSync(configuration, at: connection.server)
            guard try await base(configuration.engine.scope.base, connection) else { return isBound }
            let needs = LDAPNeeds(configuration)
            let schema = try await schema(needs, connection)
            let listed = try await accounts(needs, configuration, connection)
            try await server(configuration, identity: identity, schema: schema, listed: listed, connection)
        } catch let error as LDAPError {
            add(
                "LDAP server", "\(error)", hint: "provisioning does not work until this is fixed",
                status: CommandFailure(error).status)
        } catch {
            add("LDAP server", "\(error)", hint: "provisioning does not work until this is fixed")
        }
        return isBound
    }

    /// - Returns: the DN of the daemon according to the server; empty: anonymous.
    private mutating func identity(_ connection: LDAPConnection) async throws -> String {
        let identity = try await connection.whoAmI()
        guard !identity.isEmpty else {
            add(
                "LDAP server",
                "\(connection.server) treats the connection as anonymous; anonymous clients may not write",
                hint: "set ADMIN_USER and ADMIN_PASSWORD_FILE, or SASL_MECHANISM = EXTERNAL")
            return ""
        }
        ok("LDAP server", "\(connection.server) answers \(identity)")
        return identity.hasPrefix("dn:") ? String(identity.dropFirst(3)) : identity
    }

    /// The other servers can take over.
    private mutating func others(than server: ServerAddress, _ engine: Engine.Configuration) async {
        for other in engine.servers where other != server {
            do {
                try await LDAPConnection.open(other, options: engine.connection).close()
                ok("LDAP server", "\(other) takes the connection as well")
            } catch {
                add("LDAP server", "\(error)", hint: "it cannot take over until this is fixed; \(server) is used")
            }
        }
    }

    private mutating func features(_ offered: Set<ServerFeature>) {
        func check(_ feature: ServerFeature, _ name: String, _ source: String, hint: String) {
            let isOffered = offered.contains(feature)
            add(name, isOffered ? "offered" : "not offered (\(source))", hint: isOffered ? nil : hint)
        }
        check(
            .assertion, "assertions", "RFC 4528",
            hint: "use a server that offers them, such as OpenLDAP: claims need them")
        check(.pagedResults, "paged results", "RFC 2696", hint: "use a server that offers them")
    }

    /// Sends a request, because a server that has loaded the module lists it in its root DSE even if no database has the overlay.
    private mutating func contentSync(_ configuration: DaemonConfiguration, at server: ServerAddress) async throws {
        let subject = "content sync"
        let detection = configuration.engine.timing.detection
        guard detection != .poll else {
            return note(subject, "not used: DETECTION = poll")
        }
        let connection = try await LDAPConnection.open(server, options: configuration.engine.connection)
        let request = SearchRequest(base: configuration.engine.scope.base, scope: .base, attributes: ["1.1"])
        do throws(LDAPError) {
            for try await event in connection.contentSync(request) where event == .refreshDone { break }
            ok(subject, "offered: changes are detected at once")
        } catch {
            switch error.code {
            case .unavailableCriticalExtension:
                let effect = detection == .auto ? "changes are detected only by polling" : "changes are not detected"
                add(
                    subject, "not offered for \(request.base) (RFC 4533): \(effect)",
                    hint: "load the overlay syncprov (prov-backup-rsnapshot(8), LDAP SERVER), or set DETECTION = poll")
            // The entry itself is checked next.
            case .noSuchObject: note(subject, "unknown: \(request.base) cannot be read")
            default: throw error
            }
        }
    }

    // MARK: - Base, schema and accounts

    /// - Returns: whether the accounts can be checked.
    private mutating func base(_ base: DN, _ connection: LDAPConnection) async throws -> Bool {
        let hidden = LDAPNeeds.operational
        guard let entry = try await connection.entry(at: base, attributes: hidden) else {
            add(
                "accounts", "\(base) does not exist or is not visible",
                hint: "check SERVICE_SUBTREE, ADMIN_USER, and the access rules of the LDAP server")
            return false
        }
        let missing = hidden.filter { entry[$0].isEmpty }
        if !missing.isEmpty {
            add(
                "accounts", "\(names(missing)) of \(base) cannot be read, so this is not the daemon's identity",
                hint:
                    "check ADMIN_USER, and permit reading them in the access rules (prov-backup-rsnapshot(8), LDAP SERVER)"
            )
        }
        return true
    }

    private mutating func schema(_ needs: LDAPNeeds, _ connection: LDAPConnection) async throws
        -> ServerSchema?
    {
        let place = try await connection.entry(at: .root, attributes: ["subschemaSubentry"])?.text("subschemaSubentry")
        let entry = try await connection.entry(
            at: try DN(parsing: place ?? "cn=Subschema"), attributes: ServerSchema.attributes)
        guard let schema = entry.flatMap(ServerSchema.init) else {
            note("schema", "unknown: the daemon cannot read it")
            return nil
        }
        let attributes = needs.all.filter { schema.names(of: $0) == nil }
        let dates = needs.dates.contains { schema.names(of: $0) != nil } ? [] : needs.dates
        let classes = needs.classes.filter { !schema.knows(class: $0) }
        let missing = (attributes + dates).map(\.spelling) + classes
        add(
            "schema",
            missing.isEmpty
                ? "contains all attributes and classes that are used"
                : "the server does not know \(missing.joined(separator: ", "))",
            hint: missing.isEmpty
                ? nil : "load the schema (prov-backup-rsnapshot(8), LDAP SERVER), or correct [Attributes]")
        return schema
    }

    /// Lists the accounts as a backup run does, and checks the rights on the first one.
    /// - Returns: their number; nil: they could not be listed.
    private mutating func accounts(
        _ needs: LDAPNeeds, _ configuration: DaemonConfiguration, _ connection: LDAPConnection
    ) async throws -> Int? {
        let scope = needs.scope
        func first(_ filter: Filter) async throws(LDAPError) -> Entry? {
            try await connection.first(filter, below: scope.base, attributes: scope.names.requested + needs.required)
        }
        let own = try await first(scope.accounts)
        // Rights do not depend on the host.
        guard let entry = try await own == nil ? first(scope.ofAllHosts.accounts) : own else {
            try await unfound(needs, connection)
            return 0
        }
        let hidden = ([scope.names.mode, scope.names.state] + LDAPNeeds.operational).filter { entry[$0].isEmpty }
        guard hidden.isEmpty else {
            add(
                "accounts", "\(entry.dn) is visible, but its \(names(hidden)) cannot be read",
                hint: "permit the daemon to read them in the access rules (prov-backup-rsnapshot(8), LDAP SERVER)")
            return nil
        }
        if own == nil {
            note("accounts", "there is no account of this daemon yet below \(scope.base)")
            var seen = MissingAttributes(needs.required)
            seen.add(entry)
            add(seen, needs)
        } else {
            ok("accounts", "can be read, for instance \(entry.dn)")
        }
        let claimable = LDAPNeeds.claimClass
        let unclaimable = Filter.and([scope.accounts, .not(.equal("objectClass", AttributeValue(claimable)))])
        if needs.classes.contains(claimable), let account = try await first(unclaimable) {
            add(
                "accounts", "\(account.dn) has not the class \(claimable), so that it cannot be claimed",
                hint: "give every account the class (ldapmodify: add: objectClass)")
        }
        try await rights(on: entry.dn, needs, connection)
        return try await walk(needs, configuration, connection)
    }

    /// No account was found: there is none, or the daemon may not see the attributes by which accounts are found.
    private mutating func unfound(_ needs: LDAPNeeds, _ connection: LDAPConnection) async throws {
        let (base, names) = (needs.scope.base, needs.scope.names)
        let classes = needs.accountClasses.map { Filter.equal("objectClass", AttributeValue($0)) }
        let found = [names.mode, names.state] + (classes.isEmpty ? [Entry.nameAttribute] : [])
        guard
            let entry = try await connection.first(
                .or(classes + found.map { .present($0) }), below: base, attributes: [names.mode, names.state])
        else { return note("accounts", "there is none yet below \(base), so the rights cannot be checked") }
        let hidden = [names.mode, names.state].filter { entry[$0].isEmpty }
        guard hidden.isEmpty else {
            return add(
                "accounts",
                "no account is found: \(self.names(hidden)) of \(entry.dn) is missing or not visible to the daemon",
                hint: Self.visibilityHint)
        }
        add(
            Requirement(
                "accounts", .warning, "SEARCH_FILTER selects no account below \(base), where there is \(entry.dn)",
                hint:
                    "correct SEARCH_FILTER, or permit the daemon to read its attributes, unless the accounts are to be added yet"
            ))
    }

    private static let visibilityHint =
        "permit the daemon to read it in the access rules (prov-backup-rsnapshot(8), LDAP SERVER), or correct the entry"

    private static let inactiveHint = ", or, where entries have no such attribute, set REQUIRE_INACTIVE_FOR_DELETE = no"

    private mutating func add(_ missing: MissingAttributes, _ needs: LDAPNeeds) {
        for (attributes, accounts, example) in missing.findings {
            add(
                "accounts",
                "\(names(attributes)) of \(HealthReport.accounts(accounts)), such as \(example), is missing or not visible to the daemon",
                hint: Self.visibilityHint
                    + (needs.isForScripts && attributes.contains(needs.scope.names.active) ? Self.inactiveHint : ""))
        }
    }

    /// Reads all accounts of this daemon once, and compares them with the configurations and homes here.
    /// - Returns: their number; nil: they could not be listed.
    private mutating func walk(
        _ needs: LDAPNeeds, _ configuration: DaemonConfiguration, _ connection: LDAPConnection
    ) async throws -> Int? {
        let (scope, names) = (needs.scope, needs.scope.names)
        var missing = MissingAttributes(needs.required)
        var listed = ListedAccounts()
        var count = 0
        let (uid, number, group): (AttributeName, AttributeName, AttributeName) = ("uid", "uidNumber", "gidNumber")
        var invalid: AccountCount?
        // With a group that may be another account's, by its number, and with any other group than their own.
        var (ofAccount, ofGroup): ([AttributeValue: AccountCount], AccountCount?) = ([:], nil)
        do throws(LDAPError) {
            let request = SearchRequest(
                base: scope.base, filter: scope.accounts,
                attributes: names.requested + needs.required + [Entry.nameAttribute, number, group])
            for try await entry in connection.search(request) {
                count += 1
                if AccountStatus.isInvalid(entry, names: names) {
                    invalid = AccountCount(count: 1, example: entry).added(to: invalid)
                }
                listed.add(entry, names: names)
                // A deleted account may be stripped.
                if AccountStatus(entry, names: names)?.mode != ProvisioningMode(.delete, .done) { missing.add(entry) }
                guard entry[number] != entry[group] else { continue }
                let account = AccountCount(count: 1, example: entry)
                let unique = needs.service.uniqueValues(of: entry, for: .modify)[uid] ?? []
                if let other = unique.first(where: { !entry[uid].contains($0) }) {
                    ofAccount[other] = account.added(to: ofAccount[other])
                } else {
                    ofGroup = account.added(to: ofGroup)
                }
            }
            if let invalid {
                add(
                    "accounts", "\(invalid): mode or state is invalid, so that nothing is done for it",
                    hint: "see: \(AccountCommand.explain.text(invalid.example.accountReference))")
            }
            try await groups(ofAccount, others: ofGroup, scope, connection)
        } catch {
            guard [.sizeLimitExceeded, .adminLimitExceeded, .timeLimitExceeded].contains(error.code) else {
                throw error
            }
            add(
                "size limit", "the accounts cannot be listed, so there are no backups: \(error.code)",
                hint: Self.limitHint)
            return nil
        }
        add(missing, needs)
        if configuration.script == nil {
            for requirement in try await listed.requirements(configuration.backup) { add(requirement) }
        }
        return count
    }

    /// Finds the accounts whose group is the uid of another one, as the uid of no account may be (``ProvisioningService/uniqueValues(of:for:)``).
    /// - Parameters:
    ///   - ofAccount: the accounts with a group that may be, by its number.
    ///   - others: those with a group that cannot be.
    private mutating func groups(
        _ ofAccount: [AttributeValue: AccountCount], others: AccountCount?, _ scope: WatchScope,
        _ connection: LDAPConnection
    ) async throws(LDAPError) {
        var unknown = ofAccount
        var shared: AccountCount?
        let (uid, values) = (Entry.nameAttribute, Array(ofAccount.keys))
        for begin in stride(from: 0, to: values.count, by: Self.mostInFilter) {
            let isMeant = values[begin...].prefix(Self.mostInFilter).map { Filter.equal(uid, $0) }
            let request = SearchRequest(base: scope.base, filter: .or(isMeant), attributes: [uid], pageSize: 0)
            for try await entry in connection.search(request) {
                for value in entry[uid] {
                    shared = unknown.removeValue(forKey: value)?.added(to: shared) ?? shared
                }
            }
        }
        if let shared {
            add(
                "groups", "\(shared): gidNumber is the uid of another account, whose files this group can read",
                hint: "give each its own number, and request modify")
        }
        guard let others = unknown.values.reduce(others, { $1.added(to: $0) }) else { return }
        note(
            "groups",
            """
            \(others): gidNumber is not uidNumber; accounts of one group can read files that are readable for the group; give each its own \
            number, unless this is intended
            """)
    }

    private static let mostInFilter = 100

    // MARK: - Rights

    /// Sends a change that always fails: deleting a value that does not exist, and adding one. The server checks the rights for both first.
    private mutating func rights(
        on account: DN, _ needs: LDAPNeeds, _ connection: LDAPConnection
    ) async throws {
        let absent = AttributeValue("-2147483647")
        for name in needs.written {
            do throws(LDAPError) {
                try await connection.modify(account, [.delete(name, absent), .add(name, "0")])
            } catch {
                switch error.code {
                case .noSuchAttribute: ok("rights", "\(name) can be written")
                // Reported with the schema.
                case .undefinedAttributeType: break
                case .insufficientAccessRights:
                    add(
                        "rights", "\(name) cannot be written",
                        hint:
                            "permit the daemon to write it in the access rules (prov-backup-rsnapshot(8), LDAP SERVER)")
                case _ where error.isReplicaRefusal:
                    return add(
                        "rights",
                        "\(connection.server) is a replica, which refuses changes: claims and results cannot be written",
                        hint: "put \(error.provider) first in SERVER")
                case .invalidAttributeSyntax, .constraintViolation:
                    note("rights", "it is unknown whether \(name) can be written: \(error.code)")
                default: throw error
                }
            }
        }
    }

    // MARK: - Configuration of the server

    /// Checks size limit, overlays and indexes, from cn=config if it can be read.
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
            // It does not exist, or the daemon may not read it.
            return nil
        }
    }

    private static let limitHint =
        "give the daemon's DN size=unlimited size.prtotal=unlimited (prov-backup-rsnapshot(8), LDAP SERVER), or correct ADMIN_USER"

    private mutating func limit(_ limit: ServerConfiguration.Limit?, _ identity: String, listed: Int?) {
        let subject = "size limit"
        guard !lines.contains(where: { $0.subject == subject }) else { return }
        switch limit {
        case .unlimited?: ok(subject, "none for \(identity)")
        case .entries(let count)?:
            add(subject, "\(identity) gets at most \(count) entries", hint: Self.limitHint)
        case .undecided, nil:
            // More than the default limit of the server.
            if let listed, listed > 500 { return ok(subject, "\(listed) accounts can be listed") }
            let reason = if case .undecided(let rule)? = limit { rule } else { "cn=config cannot be read" }
            let accounts = HealthReport.accounts(listed ?? 0)
            note(
                subject,
                "unknown: a list of \(accounts) does not reach it (\(reason)); on the LDAP server: slapcat -n 0 | grep -A2 olcLimits"
            )
        }
    }

    /// Content Sync at the accounts' base may not report changes in subordinate databases.
    private mutating func glue(_ server: ServerConfiguration?, _ configuration: DaemonConfiguration) {
        guard let missed = server?.missedBySync, !missed.isEmpty, configuration.engine.timing.detection != .poll else {
            return
        }
        add(
            "syncprov",
            "changes in \(missed.joined(separator: " and ")), a subordinate database, are detected only by the next relist",
            hint:
                "configure overlay glue before overlay syncprov (slapd-config(5), olcSubordinate), or set DETECTION = poll"
        )
    }

    private mutating func indexes(
        _ server: ServerConfiguration?, _ schema: ServerSchema?, _ configuration: DaemonConfiguration
    ) {
        let subject = "indexes"
        guard let server else {
            return note(
                subject,
                "unknown: cn=config cannot be read (prov-backup-rsnapshot(8), LDAP SERVER); on the LDAP server: slapcat -n 0 | grep olcDbIndex"
            )
        }
        let missing = LDAPNeeds(configuration).indexed.filter { name in
            server.indexed.isDisjoint(with: schema?.names(of: name) ?? [name.spelling.lowercased()])
        }
        add(
            subject,
            missing.isEmpty
                ? "all that searches need" : "none for \(names(missing)): searches read all entries",
            hint: missing.isEmpty ? nil : "add them, kind eq (prov-backup-rsnapshot(8), LDAP SERVER)")
    }

    private func names(_ attributes: [AttributeName]) -> String {
        attributes.map(\.spelling).joined(separator: ", ")
    }
}

/// A number of accounts, and one of them: `2 accounts, such as uid=3724301,ou=accounts`.
private struct AccountCount: CustomStringConvertible {
    let count: Int
    let example: Entry

    func added(to other: Self?) -> Self {
        Self(count: count + (other?.count ?? 0), example: other?.example ?? example)
    }

    var description: String { "\(HealthReport.accounts(count)), such as \(example.dn)" }
}

/// The attributes and classes that the service uses.
private struct LDAPNeeds {
    /// Permits the attribute of CLAIM.
    static let claimClass = "provisioningClaimable"
    /// Maintained by the server.
    static let operational: [AttributeName] = ["entryUUID", "entryCSN"]

    let scope: WatchScope
    let service: any ProvisioningService
    let written: [AttributeName]
    /// Searches use these attributes.
    let indexed: [AttributeName]
    /// One of them is sufficient.
    let dates: [AttributeName]
    let classes: [String]
    /// Every account has these; empty: the site's own, which are unknown.
    let accountClasses: [String]
    /// Every account that is not deleted has these attributes.
    let required: [AttributeName]
    /// Whether scripts of the site provision, so that entries may be of any kind.
    let isForScripts: Bool
    private let read: [AttributeName]

    init(_ configuration: DaemonConfiguration) {
        (scope, service) = (configuration.engine.scope, configuration.engine.service)
        let names = scope.names
        let backups = configuration.script == nil ? configuration.backupJobs : nil
        written =
            [names.mode, names.state, names.returnValue, names.claim].compactMap(\.self)
            + (backups?.writtenAttributes ?? [])
        dates = names.dates
        read =
            names.requested.filter { !Self.operational.contains($0) && !names.dates.contains($0) }
            + (backups?.readAttributes ?? [Entry.nameAttribute] + (configuration.script?.attributes ?? []))
        indexed =
            ["objectClass"] + Self.operational + [names.mode, names.state]
            + (backups?.searchedAttributes ?? [Entry.nameAttribute]) + (scope.hosts == nil ? [] : [names.host])
        // A site with other attribute names has its own classes.
        let isPublished = names.mode == AttributeNames().mode
        isForScripts = backups == nil
        accountClasses = isPublished ? ["sstProvisioning"] + (backups == nil ? [] : ["sstBackup"]) : []
        // The scripts of a site need none but that which permits a delete.
        let isActiveRequired = backups != nil || configuration.engine.policy.deleteNeedsInactive
        required =
            (isActiveRequired ? [names.active] : []) + (scope.hosts == nil ? [] : [names.host])
            + (backups == nil ? [] : configuration.backup.requiredAttributes)
        classes =
            accountClasses
            + (names.claim == "provisioningClaim" ? [Self.claimClass] : [])
    }

    /// Without duplicates.
    var all: [AttributeName] {
        var seen: Set<AttributeName> = []
        return (read + written).filter { seen.insert($0).inserted }
    }
}

/// How many accounts lack attributes that every account has, or do not show them.
private struct MissingAttributes {
    private let required: [AttributeName]
    private var missing: [AttributeName: (accounts: Int, example: DN)] = [:]

    init(_ required: [AttributeName]) { self.required = required }

    mutating func add(_ entry: Entry) {
        for name in required where entry[name].isEmpty {
            missing[name, default: (0, entry.dn)].accounts += 1
        }
    }

    /// Attributes that the same number of accounts lack are together.
    var findings: [(attributes: [AttributeName], accounts: Int, example: DN)] {
        var findings: [(attributes: [AttributeName], accounts: Int, example: DN)] = []
        for name in required {
            guard let (accounts, example) = missing[name] else { continue }
            if let index = findings.firstIndex(where: { $0.accounts == accounts && $0.example == example }) {
                findings[index].attributes.append(name)
            } else {
                findings.append(([name], accounts, example))
            }
        }
        return findings
    }
}

extension LDAPConnection {
    /// The first entry that matches a filter.
    func first(_ filter: Filter, below base: DN, attributes: [AttributeName]) async throws(LDAPError) -> Entry? {
        for try await entry in search(SearchRequest(base: base, filter: filter, attributes: attributes, pageSize: 1)) {
            return entry
        }
        return nil
    }
}

extension DaemonConfiguration {
    /// A connection as root over the server's socket: root may usually read the configuration of a local server.
    fileprivate func asRoot(_ server: ServerAddress) async throws -> LDAPConnection? {
        guard case .local = server.endpoint, geteuid() == 0, engine.connection.credentials != .external else {
            return nil
        }
        var options = engine.connection
        options.credentials = .external
        return try await LDAPConnection.open(server, options: options)
    }
}
