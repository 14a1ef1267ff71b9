import LDAP
public import JobCore

/// What the machine lacks for the requests of all accounts alike.
public struct MachineShortage: Hashable, Sendable {
    /// What failed first, where, and how to fix it.
    public var text: String
    /// When that was told.
    public var since: Timestamp
    /// How many wait for it.
    public var accounts: Int
}

/// Which accounts wait because of a shortage of the machine. What is fixed in the same way is one shortage, whichever account it met first.
struct MachineShortages: Sendable {
    /// Why an account waits.
    struct Cause: Hashable, Sendable {
        var text: String
        var hint: String
    }

    /// What is to be told, once.
    enum Change: Hashable, Sendable {
        case began(String)
        case over(String)
    }

    private struct Kind {
        var text: String
        var since: Timestamp
        var accounts: Set<EntryUUID> = []
    }

    private var kinds: [String: Kind] = [:]

    /// The oldest first.
    var list: [MachineShortage] {
        kinds.values.map { MachineShortage(text: $0.text, since: $0.since, accounts: $0.accounts.count) }
            .sorted { ($0.since, $0.text) < ($1.since, $1.text) }
    }

    /// - Parameter cause: why the account waits now; nil: not because of a shortage.
    mutating func update(_ account: EntryUUID, _ cause: Cause?, at now: Timestamp) -> [Change] {
        var changes: [Change] = []
        for hint in kinds.keys where hint != cause?.hint {
            guard var kind = kinds[hint], kind.accounts.remove(account) != nil else { continue }
            kinds[hint] = kind.accounts.isEmpty ? nil : kind
            if kind.accounts.isEmpty { changes.append(.over(kind.text)) }
        }
        if let cause {
            if kinds[cause.hint] == nil { changes.append(.began(cause.text)) }
            kinds[cause.hint, default: Kind(text: cause.text, since: now)].accounts.insert(account)
        }
        return changes
    }
}
