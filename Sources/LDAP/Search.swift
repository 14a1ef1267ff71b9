/// The entries that a search finds, page by page (RFC 2696): the next page is asked for when the last one has been taken.
///
/// It ends with an error unless it is whole: a result that the server has cut off is never taken for a result.
public struct LDAPSearch: AsyncSequence, Sendable {
    /// What it gives.
    public typealias Element = Entry
    /// How it fails.
    public typealias Failure = LDAPError

    let connection: LDAPConnection
    let request: SearchRequest

    /// Begins the search.
    public func makeAsyncIterator() -> Iterator { Iterator(search: self) }

    /// All entries together. Only where their number is known to be small.
    public func all() async throws(LDAPError) -> [Entry] {
        var entries: [Entry] = []
        for try await entry in self { entries.append(entry) }
        return entries
    }

    /// Hands out one page after the other.
    public struct Iterator: AsyncIteratorProtocol {
        private let search: LDAPSearch
        private var entries: ArraySlice<Entry> = []
        /// Where the next page begins; nil behind the last one, and after an error.
        private var cookie: [UInt8]? = []
        private var count = 0

        init(search: LDAPSearch) { self.search = search }

        /// The next entry, nil at the end.
        public mutating func next() async throws(LDAPError) -> Entry? { try await next(isolation: nil) }

        /// The next entry, nil at the end.
        public mutating func next(
            isolation actor: isolated (any Actor)?
        ) async throws(LDAPError) -> Entry? {
            while entries.isEmpty, let start = cookie {
                cookie = nil
                let page = try await search.page(from: start, behind: count)
                entries = page.entries[...]
                count += page.entries.count
                cookie = page.next
            }
            return entries.popFirst()
        }
    }

    /// - Parameter count: how many entries the pages before had.
    private func page(
        from cookie: [UInt8], behind count: Int
    ) async throws(LDAPError) -> (entries: [Entry], next: [UInt8]?) {
        let message = Request.search(
            base: request.base, scope: request.scope, filter: request.filter, attributes: request.attributes,
            sizeLimit: request.sizeLimit)
        let isPaged = request.pageSize > 0 && request.scope != .base
        let controls = isPaged ? [Control.page(size: request.pageSize, cookie: cookie)] : []
        let response = try await connection.succeed(message, controls: controls)
        // A server counts each page by itself.
        guard request.sizeLimit <= 0 || count + response.entries.count <= request.sizeLimit else {
            throw LDAPError(
                .sizeLimitExceeded, operation: "\(message)", server: "\(connection.server)",
                diagnostic: "there are more than the \(request.sizeLimit) entries that were asked for")
        }
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
public enum SearchScope: Hashable, Sendable {
    /// The base alone.
    case base
    /// The entries just below the base.
    case oneLevel
    /// The base and everything below.
    case subtree
}

/// What to look for.
public struct SearchRequest: Hashable, Sendable {
    /// Where the search begins.
    public var base: DN
    /// How far it goes.
    public var scope: SearchScope
    /// Which entries are wanted.
    public var filter: Filter
    /// Which attributes are wanted: none named means all user attributes, `*` the same, `+` the operational ones, `1.1` none.
    public var attributes: [AttributeName]
    /// How many entries are asked for at a time (RFC 2696); 0 asks for all at once.
    public var pageSize: Int
    /// More entries than this are an error; 0 leaves the limit to the server.
    public var sizeLimit: Int

    /// A search for everything below `base` unless the arguments say less.
    public init(
        base: DN, scope: SearchScope = .subtree, filter: Filter = .present("objectClass"),
        attributes: [AttributeName] = [],
        pageSize: Int = 500, sizeLimit: Int = 0
    ) {
        self.base = base
        self.scope = scope
        self.filter = filter
        self.attributes = attributes
        self.pageSize = pageSize
        self.sizeLimit = sizeLimit
    }
}
