public import LDAP

/// What a service's other jobs may do with accounts: see them, and write attributes of their own.
extension Engine {
    /// The accounts of this daemon, of its scope and its hosts.
    ///
    /// They are read page by page while they are asked for, so however many there are, few are in memory.
    /// - Parameters:
    ///   - condition: which they must meet as well.
    ///   - attributes: besides those of the protocol.
    ///   - ofAllHosts: also those that belong to other daemons, to tell why one is left alone.
    public func accounts(
        where condition: Filter? = nil, attributes: [AttributeName], ofAllHosts: Bool = false
    ) -> AccountList {
        let scope = ofAllHosts ? reader.scope.ofAllHosts : reader.scope
        return AccountList(
            reader: reader, filter: .and([scope.accounts] + (condition.map { [$0] } ?? [])), attributes: attributes)
    }

    /// The accounts of this daemon with a request that waits or is being worked on.
    /// - Parameter attributes: besides those of the protocol.
    public func pendingAccounts(attributes: [AttributeName]) -> AccountList {
        AccountList(reader: reader, filter: reader.scope.pending, attributes: attributes)
    }

    /// The accounts of this daemon whose last request failed, as their ReturnValue says; nil where the directory has no place for one.
    /// - Parameter attributes: besides those of the protocol.
    public func failedAccounts(attributes: [AttributeName]) -> AccountList? {
        reader.scope.failed.map { AccountList(reader: reader, filter: $0, attributes: attributes) }
    }

    /// Whether other daemons may work on the same accounts (attribute CLAIM).
    public var sharesAccounts: Bool { reader.scope.names.claim != nil }

    /// One account as it stands now; nil when it is gone, or no longer this daemon's.
    ///
    /// Waits for a directory that is away, for as long as the calling task lives.
    /// - Throws: `CancellationError`, or the directory's refusal as a `LDAPError`.
    public func account(_ key: AccountKey, attributes: [AttributeName]) async throws -> Account? {
        let reader = reader
        return try await reader.entry(key, attributes: attributes, meeting: reader.scope.accounts)
            .flatMap { Account($0, names: reader.scope.names) }
    }

    /// Other entries that have the same value of an attribute, of whatever host; those that take no part in provisioning are left out.
    /// - Throws: `CancellationError`, or the directory's refusal as a `LDAPError`.
    public func others(
        than account: Account, withSame attribute: AttributeName, attributes: [AttributeName]
    ) async throws -> [Account] {
        try await reader.others(
            than: account.key.uuid, with: account.entry[attribute], of: attribute, attributes: attributes
        ).compactMap { Account($0, names: reader.scope.names) }
    }

    /// Writes what a service keeps in an account's entry besides provisioning: reads the entry, has `change` say what is to be changed,
    /// and writes that, again and again until it holds.
    ///
    /// A lost connection leaves a write in doubt, and somebody else may write at the same time: then the entry is read again and `change`
    /// decides anew, so it must ask for nothing when the entry is as it should be. It may replace what only this daemon writes; of an
    /// attribute with others' values it must delete and add its own alone, which makes the write a compare-and-set.
    ///
    /// The dispatcher is not told: such a write is no event for an account that is done, since it is not in the pending set. The echo at an
    /// account with a wish costs a look, and must not be passed over, for it may be the only notice of the wish that was written before.
    /// - Throws: ``AccountGone``, `CancellationError`, or the directory's refusal as a `LDAPError`.
    public func write(
        to key: AccountKey, reading attributes: [AttributeName],
        _ change: @Sendable (Entry) -> [Modification]
    ) async throws {
        try await Committer(reader: reader).write(to: key, reading: attributes, change)
    }
}

/// An entry that was to be written to is not in the directory any more, or no longer this daemon's.
public struct AccountGone: Error, Hashable, Sendable, CustomStringConvertible {
    /// Where it was last seen.
    public var dn: DN

    /// The name, and that nothing is to be done.
    public var description: String {
        "\(dn) is gone from the directory, or no longer this daemon's; nothing was written; no action is needed unless the account should exist"
    }
}
