extension LDAPConnection {
    /// Changes an entry (RFC 4511, section 4.6): all modifications or none.
    ///
    /// - Parameters:
    ///   - filter: must match the entry, else nothing is changed and the error is `assertionFailed` (RFC 4528).
    ///   - postRead: attributes to return after the operation (RFC 4527).
    /// - Returns: the entry after the operation; nil when it was not requested or the server does not support that.
    /// - Throws: among others `noSuchAttribute` when a value to delete is missing, so a compare-and-set is lost.
    @discardableResult
    package func modify(
        _ dn: DN, _ modifications: [Modification], asserting filter: Filter? = nil, postRead: [AttributeName] = []
    ) async throws(LDAPError) -> Entry? {
        let request = Request.modify(dn, modifications)
        var controls: [Control] = postRead.isEmpty ? [] : [.postRead(postRead)]
        if let filter {
            guard let assertion = Control.assertion(filter) else {
                throw LDAPError(
                    .filterError, operation: "\(request)", server: "\(server)", diagnostic: "\(filter) is malformed")
            }
            controls.insert(assertion, at: 0)
        }
        let outcome = try await succeed(request, controls: controls).outcome
        do throws(BERReader.Malformed) { return try outcome.controls.postRead() } catch {
            throw malformed("the entry", request)
        }
    }

    /// Adds an entry (RFC 4511, section 4.7).
    /// - Throws: among others `entryAlreadyExists`, and `noSuchObject` when the parent is missing.
    package func add(_ entry: Entry) async throws(LDAPError) { _ = try await succeed(.add(entry)) }

    /// Deletes an entry without children (RFC 4511, section 4.8).
    package func delete(_ dn: DN) async throws(LDAPError) { _ = try await succeed(.delete(dn)) }

    /// Renames an entry, or moves it with its subtree (RFC 4511, section 4.9).
    /// - Parameters:
    ///   - rdn: its new relative name.
    ///   - deleteOldRDN: whether the values of the old relative name are removed.
    ///   - newSuperior: its new parent; nil: unchanged.
    package func rename(
        _ dn: DN, to rdn: RDN, deleteOldRDN: Bool = true, newSuperior: DN? = nil
    ) async throws(LDAPError) {
        _ = try await succeed(.rename(dn, to: rdn, deleteOldRDN: deleteOldRDN, newSuperior: newSuperior))
    }

    /// Our identity according to the server (RFC 4532): `dn:…`, `u:…`, or empty for anonymous.
    package func whoAmI() async throws(LDAPError) -> String {
        let value = try await succeed(.whoAmI).outcome.value ?? []
        guard let text = String(validating: value, as: UTF8.self) else { throw malformed("the identity", .whoAmI) }
        return text
    }

    /// The features that the server lists in its root DSE (RFC 4512, section 5.1).
    package func features() async throws(LDAPError) -> Set<ServerFeature> {
        let lists: [AttributeName] = ["supportedControl", "supportedExtension"]
        guard let entry = try await entry(at: .root, attributes: lists) else {
            throw LDAPError(
                .noSuchObject, operation: "read the root DSE", server: "\(server)",
                diagnostic: "the server does not show its root DSE to us")
        }
        return Set(lists.flatMap { entry[$0] }.compactMap { $0.text.flatMap(ServerFeature.init) })
    }

    /// One entry; nil when there is none, or the access rules hide it.
    /// - Parameter attributes: empty: all user attributes.
    package func entry(at dn: DN, attributes: [AttributeName] = []) async throws(LDAPError) -> Entry? {
        let request = Request.search(SearchRequest(base: dn, scope: .base, attributes: attributes))
        let response = try await perform(request)
        guard response.outcome.code != .noSuchObject else { return nil }
        guard response.outcome.code == .success else { throw error(response.outcome, request) }
        return response.entries.first
    }

    /// Searches entries. Nothing is sent before the first entry is asked for.
    package nonisolated func search(_ request: SearchRequest) -> LDAPSearch {
        LDAPSearch(connection: self, request: request)
    }
}

/// Optional features of a server: controls and extended operations, by their identifiers.
package enum ServerFeature: String, CaseIterable, Sendable {
    /// Operations only if a filter matches (RFC 4528).
    case assertion = "1.3.6.1.1.12"
    /// The entry after the operation (RFC 4527).
    case postRead = "1.3.6.1.1.13.2"
    /// Searches page by page (RFC 2696).
    case pagedResults = "1.2.840.113556.1.4.319"
    /// Content Synchronization (RFC 4533). slapd names it as soon as the module is loaded; a database without the overlay still
    /// answers with unavailableCriticalExtension.
    case contentSync = "1.3.6.1.4.1.4203.1.9.1.1"
    /// StartTLS (RFC 4511, section 4.14).
    case startTLS = "1.3.6.1.4.1.1466.20037"
    /// Who am I? (RFC 4532).
    case whoAmI = "1.3.6.1.4.1.4203.1.11.3"
}

/// The entries that a search finds, page by page (RFC 2696): the next page is requested when the last one has been consumed.
///
/// It ends with an error unless it is complete: a result that the server truncated is never treated as complete.
package struct LDAPSearch: AsyncSequence, AsyncIteratorProtocol {
    private let connection: LDAPConnection
    private let request: SearchRequest
    private var entries: ArraySlice<Entry> = []
    /// Where the next page begins; nil after the last one, and after an error.
    private var cookie: [UInt8]? = []

    fileprivate init(connection: LDAPConnection, request: SearchRequest) {
        self.connection = connection
        self.request = request
    }

    package func makeAsyncIterator() -> LDAPSearch { self }

    /// All entries together. Only where their number is known to be small.
    package func all() async throws(LDAPError) -> [Entry] {
        var entries: [Entry] = []
        for try await entry in self { entries.append(entry) }
        return entries
    }

    package mutating func next() async throws(LDAPError) -> Entry? { try await next(isolation: nil) }

    /// The next entry; nil at the end.
    package mutating func next(isolation actor: isolated (any Actor)?) async throws(LDAPError) -> Entry? {
        while entries.isEmpty, let start = cookie {
            cookie = nil
            let page = try await page(from: start)
            entries = page.entries[...]
            cookie = page.next
        }
        return entries.popFirst()
    }

    private func page(from cookie: [UInt8]) async throws(LDAPError) -> (entries: [Entry], next: [UInt8]?) {
        let message = Request.search(request)
        let isPaged = request.pageSize > 0 && request.scope != .base
        let controls = isPaged ? [Control.page(size: request.pageSize, cookie: cookie)] : []
        let response = try await connection.succeed(message, controls: controls)
        guard response.references.isEmpty else {
            throw LDAPError(
                .referral, operation: "\(message)", server: "\(connection.server)",
                diagnostic: "a part of the tree is on another server", referrals: response.references)
        }
        do throws(BERReader.Malformed) {
            return (response.entries, isPaged ? try response.outcome.controls.nextPage() : nil)
        } catch {
            throw connection.malformed("the place of the next page", message)
        }
    }
}

/// How far below its base a search goes (RFC 4511, section 4.5.1.2).
package enum SearchScope: Hashable, Sendable {
    case base
    /// The entries just below the base.
    case oneLevel
    /// The base and everything below.
    case subtree
}

/// What a search looks for.
package struct SearchRequest: Hashable, Sendable {
    package let base: DN
    package let scope: SearchScope
    package let filter: Filter
    /// None named means all user attributes, `*` the same, `+` the operational ones, `1.1` none.
    package let attributes: [AttributeName]
    /// How many entries are asked for at a time (RFC 2696); 0 asks for all at once.
    package let pageSize: Int

    package init(
        base: DN, scope: SearchScope = .subtree, filter: Filter = .present("objectClass"),
        attributes: [AttributeName] = [], pageSize: Int = 500
    ) {
        self.base = base
        self.scope = scope
        self.filter = filter
        self.attributes = attributes
        self.pageSize = pageSize
    }
}
