public import LDAP

/// Reads accounts; each call is one request on the link, made again when the connection is lost under it.
@MainActor public struct AccountReader {
    /// Where requests go.
    public let link: LDAPLink
    /// Which accounts are looked for.
    public let scope: WatchScope

    /// Reads the accounts of a scope over a link.
    public init(link: LDAPLink, scope: WatchScope) {
        self.link = link
        self.scope = scope
    }

    /// The entry as it stands now; nil when it is gone. An entry that was renamed is found by its entryUUID.
    /// One whose entryUUID the directory does not give is found by its name alone.
    /// - Parameter condition: which it must meet as well; otherwise it counts as gone.
    /// - Throws: `CancellationError`, or a `LDAPError` that another try would meet again.
    public func entry(
        _ key: AccountKey, attributes: [AttributeName], meeting condition: Filter? = nil
    ) async throws -> Entry? {
        let wanted = scope.names.requested + attributes
        return try await link.withConnection { connection throws(LDAPError) in
            if let entry = try await first(condition ?? .present("objectClass"), wanted, at: key.dn, on: connection),
                entry[AttributeNames.entryUUID].isEmpty
                    || entry.text(AttributeNames.entryUUID).flatMap({ EntryUUID(text: $0) }) == key.uuid
            {
                return entry
            }
            let isMeant = Filter.equal(AttributeNames.entryUUID, AttributeValue(key.uuid.description))
            return try await first(condition.map { .and([isMeant, $0]) } ?? isMeant, wanted, on: connection)
        }
    }

    /// Hands over every entry that the filter finds, page by page. One such search at a time on a link: the server keeps the place of one.
    /// - Parameter body: called for each; the next page is asked for when it has returned.
    public func forEach(
        _ filter: Filter, attributes: [AttributeName], _ body: (Entry) async -> Void
    ) async throws {
        try await search(filter, attributes, pageSize: 500, body)
    }

    private func search(
        _ filter: Filter, _ attributes: [AttributeName], pageSize: Int, _ body: (Entry) async -> Void
    ) async throws {
        try await link.withConnection { connection throws(LDAPError) in
            let request = SearchRequest(
                base: scope.base, scope: .subtree, filter: filter, attributes: attributes, pageSize: pageSize)
            for try await entry in connection.search(request) { await body(entry) }
        }
    }

    /// Other entries that have one of these values, of whatever host and whether they take part in provisioning or not.
    /// - Throws: `CancellationError`, or a `LDAPError` that another try would meet again.
    func others(
        than uuid: EntryUUID, with values: [AttributeValue], of attribute: AttributeName, attributes: [AttributeName]
    ) async throws -> [Entry] {
        guard !values.isEmpty else { return [] }
        var others: [Entry] = []
        // Not paged: it finds few, and the list of what is pending may be under way on the same connection.
        try await search(
            .or(values.map { .equal(attribute, $0) }), scope.names.requested + attributes, pageSize: 0
        ) { entry in
            if entry.text(AttributeNames.entryUUID).flatMap({ EntryUUID(text: $0) }) != uuid { others.append(entry) }
        }
        return others
    }

    /// Why an entry that we see cannot be worked on.
    nonisolated static func hidden(_ attributes: [AttributeName]) -> String {
        "the directory does not give its \(attributes.map(\.description).joined(separator: " and ")); \(hiddenHint)"
    }
    nonisolated static let hiddenHint =
        "let the access rules give them to the daemon (prov-backup-rsnapshot(8), LDAP SERVER)"

    /// - Parameter dn: nil looks through the whole scope.
    private func first(
        _ filter: Filter, _ attributes: [AttributeName], at dn: DN? = nil, on connection: LDAPConnection
    ) async throws(LDAPError) -> Entry? {
        // Not paged: it finds one at most, and another paged search may be under way on the connection.
        let request = SearchRequest(
            base: dn ?? scope.base, scope: dn == nil ? .subtree : .base, filter: filter, attributes: attributes,
            pageSize: 0)
        do throws(LDAPError) {
            for try await entry in connection.search(request) { return entry }
            return nil
        } catch {
            guard dn != nil, error.code == .noSuchObject else { throw error }
            return nil
        }
    }
}

extension LDAPLink {
    /// Does one thing that may be done again on a connection, until the directory has answered.
    /// - Throws: `CancellationError` when the link is stopped, or the directory's refusal.
    func withConnection<Result>(
        _ body: (LDAPConnection) async throws(LDAPError) -> Result
    ) async throws -> Result {
        while true {
            let connection = try await self.connection()
            do throws(LDAPError) {
                let result = try await body(connection)
                noteSuccess()
                return result
            } catch {
                try Task.checkCancellation()
                guard error.isRetryable else { throw error }
                drop(connection, because: error)
            }
        }
    }
}
