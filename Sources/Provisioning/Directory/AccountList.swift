import LDAP

/// The accounts that a filter finds, each once, read page by page while somebody asks for the next.
///
/// It has a connection of its own, which ends with the iteration: a server keeps one paged search for each connection. When that is lost,
/// the search is made anew, and what was given already is left out; so each account is given as it stood at some time since the start.
/// Diagnostics: `CancellationError`, or the directory's refusal as a `LDAPError`.
public struct AccountList: AsyncSequence, Sendable {
    let reader: AccountReader
    let filter: Filter
    let attributes: [AttributeName]

    /// Begins the search; nothing is sent before the first account is asked for.
    public func makeAsyncIterator() -> Iterator { Iterator(list: self) }

    /// Hands out one account after the other.
    public struct Iterator: AsyncIteratorProtocol {
        private let list: AccountList
        private var search: LDAPSearch.Iterator?
        private var given: Set<EntryUUID> = []
        private var isAtEnd = false

        init(list: AccountList) { self.list = list }

        /// The next account, nil at the end.
        public mutating func next() async throws -> Account? {
            while !isAtEnd {
                let connected = try await connectedSearch()
                do throws(LDAPError) {
                    let entry = try await nextEntry(connected)
                    guard let entry else { break }
                    if let account = try list.account(entry), given.insert(account.key.uuid).inserted { return account }
                } catch {
                    search = nil
                    try Task.checkCancellation()
                    guard error.isRetryable else { throw error }
                }
            }
            isAtEnd = true
            search = nil
            return nil
        }

        private mutating func connectedSearch() async throws -> LDAPSearch.Iterator {
            if let search { return search }
            let connection = try await list.reader.link.ownConnection()
            return connection.search(list.request).makeAsyncIterator()
        }

        private mutating func nextEntry(_ connected: LDAPSearch.Iterator) async throws(LDAPError) -> Entry? {
            var connected = connected
            search = nil
            let entry = try await connected.next()
            search = connected
            return entry
        }
    }

    private var request: SearchRequest {
        SearchRequest(
            base: reader.scope.base, filter: filter, attributes: reader.scope.names.requested + attributes)
    }

    /// - Returns: nil for an entry whose mode is none of the protocol's.
    private func account(_ entry: Entry) throws(LDAPError) -> Account? {
        let hidden = [AttributeNames.entryUUID, AttributeNames.entryCSN].filter { entry[$0].isEmpty }
        guard hidden.isEmpty else {
            throw LDAPError(
                .insufficientAccessRights, operation: "read \(entry.dn)", server: "the directory",
                diagnostic: AccountReader.hidden(hidden))
        }
        return Account(entry, names: reader.scope.names)
    }
}
