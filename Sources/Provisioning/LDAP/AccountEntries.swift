public import LDAP

/// The result of a compare-and-set.
enum WriteResult: Hashable, Sendable {
    /// The entry was written and has this entryCSN, where the server returned it.
    case written(csn: AttributeValue?)
    /// The entry is not as it was read: someone else has changed it.
    case lost
    /// The entry still waits for this outcome, but others change it again and again, or the server returns older versions of it.
    case contended(tries: Int)
    /// The entry does not exist any more.
    case gone
    /// The server refuses the write, and would refuse it again.
    case refused(LDAPError)
}

/// Reads and writes the entries of accounts. Each call is repeated when the connection is lost; a write of unknown outcome is resolved by a read.
@MainActor struct AccountEntries {
    let link: LDAPLink
    let scope: WatchScope

    // MARK: - Reading

    /// Reads an entry by its DN, or by its entryUUID if it was renamed. If the server does not return the entryUUID, the DN alone counts.
    /// - Parameter condition: a further condition; an entry that does not meet it counts as gone.
    /// - Returns: nil when the entry is gone.
    /// - Throws: `CancellationError`, or an `LDAPError` that is not retryable.
    func entry(
        _ key: AccountKey, attributes: [AttributeName], meeting condition: Filter? = nil
    ) async throws -> Entry? {
        let wanted = scope.names.requested + attributes
        return try await link.withConnection { connection throws(LDAPError) in
            if let entry = try await first(condition ?? .present("objectClass"), wanted, at: key.dn, on: connection),
                entry[AttributeNames.entryUUID].isEmpty || entry.uuid == key.uuid
            {
                return entry
            }
            let isMeant = Filter.equal(AttributeNames.entryUUID, AttributeValue(key.uuid.description))
            return try await first(condition.map { .and([isMeant, $0]) } ?? isMeant, wanted, on: connection)
        }
    }

    /// Calls the body for each entry that the filter finds; again for all when the connection is lost.
    func forEach(_ filter: Filter, attributes: [AttributeName], _ body: (Entry) async -> Void) async throws {
        try await link.withConnection { connection throws(LDAPError) in
            let request = SearchRequest(base: scope.base, filter: filter, attributes: attributes)
            for try await entry in connection.search(request) { await body(entry) }
        }
    }

    /// Other entries that have one of these values, of any host, also those that take no part in provisioning.
    /// - Parameters:
    ///   - values: by attribute.
    ///   - conditions: further conditions.
    /// - Throws: `CancellationError`, or an `LDAPError` that is not retryable.
    func others(
        than uuid: EntryUUID, with values: [AttributeName: [AttributeValue]], attributes: [AttributeName],
        meeting conditions: [Filter] = []
    ) async throws -> [Entry] {
        let hasValue = values.flatMap { name, values in values.map { Filter.equal(name, $0) } }
        guard !hasValue.isEmpty else { return [] }
        // Not paged: it finds few, and the paged list of pending accounts may use the same connection.
        let request = SearchRequest(
            base: scope.base, filter: .and([.or(hasValue)] + conditions),
            attributes: scope.names.requested + attributes, pageSize: 0)
        return try await link.withConnection { connection throws(LDAPError) in
            try await connection.search(request).all().filter { $0.uuid != uuid }
        }
    }

    /// - Parameter dn: nil: searches the whole subtree.
    private func first(
        _ filter: Filter, _ attributes: [AttributeName], at dn: DN? = nil, on connection: LDAPConnection
    ) async throws(LDAPError) -> Entry? {
        // Not paged: it finds one at most, and a paged search may use the same connection.
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

    /// The operational attributes that the protocol needs and the server did not return.
    nonisolated static func hiddenAttributes(of entry: Entry) -> [AttributeName] {
        [AttributeNames.entryUUID, AttributeNames.entryCSN].filter { entry[$0].isEmpty }
    }

    /// Why an entry without them cannot be worked on.
    nonisolated static func hidden(_ attributes: [AttributeName]) -> String {
        "the LDAP server does not return its \(attributes.map(\.description).joined(separator: " and ")); \(hiddenHint)"
    }
    nonisolated static let hiddenHint =
        "let the access rules show them to the daemon (prov-backup-rsnapshot(8), LDAP SERVER)"

    // MARK: - Writing

    /// Writes until the outcome is known, also over lost connections: a compare-and-set may be repeated, and when the repeated one is lost,
    /// the entry tells whether the first one was carried out.
    /// - Throws: `CancellationError` when the daemon stops first. Then the outcome may be unknown, and the next start decides from the entry.
    func write(_ write: EntryWrite, to key: AccountKey) async throws -> WriteResult {
        var dn = key.dn
        var isOutcomeUnknown = false
        var busy = 0
        defer { link.isNoLongerBusy(after: busy) }
        while true {
            let connection = try await link.connection()
            do throws(LDAPError) {
                let after = try await connection.modify(
                    dn, write.modifications, asserting: write.assertion, postRead: [AttributeNames.entryCSN])
                link.noteSuccess()
                return .written(csn: after?[AttributeNames.entryCSN].first)
            } catch {
                try Task.checkCancellation()
                switch error.code {
                case .noSuchAttribute, .assertionFailed:
                    return isOutcomeUnknown ? try await resolveUnknownOutcome(write, key) : .lost
                case .noSuchObject:
                    guard let entry = try await self.entry(key, attributes: []), entry.dn != dn else { return .gone }
                    dn = entry.dn
                case _ where error.isBusy:
                    busy += 1
                    try await link.waitWhileBusy(error, tries: busy)
                case _ where error.isRetryable:
                    isOutcomeUnknown = true
                    link.drop(connection, because: error)
                default:
                    link.leaveReplica(connection, because: error)
                    return .refused(error)
                }
            }
            try Task.checkCancellation()
        }
    }

    /// Writes the outcome of a job. Others may change the entry while the job runs (a server may record each login, for example), as long as
    /// the entry still waits for this outcome: then it is read by its entryUUID, and the outcome is written under the entryCSN that was read.
    func writeOutcome(_ write: EntryWrite, to key: AccountKey) async throws -> WriteResult {
        var (write, key) = (write, key)
        for _ in 0..<Self.triesAtOnce {
            let result = try await self.write(write, to: key)
            guard result == .lost else { return result }
            guard let entry = try await self.entry(key, attributes: []) else { return .gone }
            guard let status = AccountStatus(entry, names: scope.names) else { return .lost }
            if EntryVersion.isOlder(status.csn, than: write.csn) { break }
            guard let next = write.following(status) else { return .lost }
            (write, key) = (next, status.key)
        }
        return .contended(tries: Self.triesAtOnce)
    }

    private static let triesAtOnce = 3

    private static let mostLosses = 20

    /// See ``Engine/write(to:reading:_:)``.
    func write(
        to key: AccountKey, reading attributes: [AttributeName], _ change: (Entry) -> [Modification]
    ) async throws {
        let ours = scope.accounts
        // Not the entryCSN: others may change the entry meanwhile, and where that matters the modifications are a compare-and-set.
        let isMeant = Filter.equal(AttributeNames.entryUUID, AttributeValue(key.uuid.description))
        var (losses, busy) = (0, 0)
        defer { link.isNoLongerBusy(after: busy) }
        while true {
            guard let entry = try await self.entry(key, attributes: attributes, meeting: ours) else {
                throw AccountGone(dn: key.dn)
            }
            let modifications = change(entry)
            guard !modifications.isEmpty else { return }
            let connection = try await link.connection()
            do throws(LDAPError) {
                try await connection.modify(entry.dn, modifications, asserting: isMeant)
                return link.noteSuccess()
            } catch {
                try Task.checkCancellation()
                switch error.code {
                case .noSuchAttribute, .attributeOrValueExists, .noSuchObject, .assertionFailed:
                    losses += 1
                    // So many lost races in a row mean something else: an attribute that may be read and not written.
                    if losses == Self.mostLosses { throw error }
                case _ where error.isBusy:
                    busy += 1
                    try await link.waitWhileBusy(error, tries: busy)
                case _ where error.isRetryable: link.drop(connection, because: error)
                default:
                    link.leaveReplica(connection, because: error)
                    throw error
                }
            }
        }
    }

    private func resolveUnknownOutcome(_ write: EntryWrite, _ key: AccountKey) async throws -> WriteResult {
        guard let entry = try await self.entry(key, attributes: []) else { return .gone }
        let status = AccountStatus(entry, names: scope.names)
        return status.map(write.isFulfilled) == true ? .written(csn: entry[AttributeNames.entryCSN].first) : .lost
    }
}

extension Entry {
    /// The entryUUID; nil when the server did not return it.
    var uuid: EntryUUID? { text(AttributeNames.entryUUID).flatMap { EntryUUID(text: $0) } }
}

/// The accounts among the entries of a list; entries that take no part in provisioning are left out.
public struct AccountList: AsyncSequence, Sendable {
    let list: EntryList

    init(entries: AccountEntries, filter: Filter, attributes: [AttributeName]) {
        list = EntryList(entries: entries, filter: filter, attributes: attributes)
    }

    /// Sends nothing before the first account is asked for.
    public func makeAsyncIterator() -> Iterator {
        Iterator(entries: list.makeAsyncIterator(), names: list.entries.scope.names)
    }

    /// The iterator.
    public struct Iterator: AsyncIteratorProtocol {
        fileprivate var entries: EntryList.Iterator
        fileprivate let names: AttributeNames

        /// The next account, nil at the end.
        public mutating func next() async throws -> Account? {
            while let entry = try await entries.next() {
                if let account = Account(entry, names: names) { return account }
            }
            return nil
        }
    }
}

/// The entries that a filter finds, each once, read page by page while the sequence is iterated.
///
/// Each iteration has a connection of its own, because a server keeps one paged search for each connection. When the connection is lost, the
/// search is repeated, and entries that were returned before are skipped. Throws `CancellationError`, or the server's refusal as an `LDAPError`.
public struct EntryList: AsyncSequence, Sendable {
    let entries: AccountEntries
    let filter: Filter
    let attributes: [AttributeName]

    /// Sends nothing before the first entry is asked for.
    public func makeAsyncIterator() -> Iterator { Iterator(list: self) }

    /// The iterator.
    public struct Iterator: AsyncIteratorProtocol {
        private let list: EntryList
        private var search: LDAPSearch?
        private var returned: Set<EntryUUID> = []
        private var isAtEnd = false
        /// Searches in a row that failed before they returned an entry.
        private var failures = 0

        init(list: EntryList) { self.list = list }

        /// The next entry, nil at the end.
        public mutating func next() async throws -> Entry? {
            while !isAtEnd {
                let connected = try await connectedSearch()
                do throws(LDAPError) {
                    let entry = try await nextEntry(connected)
                    guard let entry else { break }
                    failures = 0
                    if let uuid = try list.uuid(of: entry), returned.insert(uuid).inserted { return entry }
                } catch {
                    search = nil
                    try Task.checkCancellation()
                    guard error.isRetryable else { throw error }
                    failures += 1
                    // A connection that was lost is replaced at once; a server that refuses each search is left alone for a while.
                    if failures > 1 { try await list.entries.link.pause(afterFailures: failures - 1) }
                }
            }
            isAtEnd = true
            search = nil
            return nil
        }

        private mutating func connectedSearch() async throws -> LDAPSearch {
            if let search { return search }
            let connection = try await list.entries.link.ownConnection()
            return connection.search(list.request)
        }

        private mutating func nextEntry(_ connected: LDAPSearch) async throws(LDAPError) -> Entry? {
            var connected = connected
            search = nil
            let entry = try await connected.next()
            search = connected
            return entry
        }
    }

    private var request: SearchRequest {
        SearchRequest(
            base: entries.scope.base, filter: filter, attributes: entries.scope.names.requested + attributes)
    }

    private func uuid(of entry: Entry) throws(LDAPError) -> EntryUUID? {
        let hidden = AccountEntries.hiddenAttributes(of: entry)
        guard hidden.isEmpty else {
            throw LDAPError(
                .insufficientAccessRights, operation: "read \(entry.dn)", server: "the LDAP server",
                diagnostic: AccountEntries.hidden(hidden))
        }
        return entry.uuid
    }
}
