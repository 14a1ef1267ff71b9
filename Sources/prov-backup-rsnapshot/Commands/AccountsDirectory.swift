import Daemon
import LDAP
import Provisioning

/// The accounts as a command sees them: one connection, no waiting for a directory that is away.
struct AccountsDirectory {
    let scope: WatchScope
    private let connection: LDAPConnection

    init(_ configuration: DaemonConfiguration) async throws {
        scope = configuration.engine.scope
        connection = try await configuration.connectOnce()
    }

    /// - Parameter attributes: besides those of the protocol and `uid`.
    func forEach(
        _ filter: Filter, attributes: [AttributeName] = [],
        _ body: (AccountStatus, _ uid: String, Entry) throws -> Void
    ) async throws {
        try await CommandFailure.translating {
            let request = SearchRequest(
                base: scope.base, scope: .subtree, filter: filter,
                attributes: scope.names.requested + ["uid"] + attributes)
            for try await entry in connection.search(request) {
                guard let status = AccountStatus(entry, names: scope.names) else { continue }
                try body(status, entry.text("uid") ?? "?", entry)
            }
        }
    }

    /// - Parameter attributes: besides those of the protocol and `uid`.
    /// - Throws: `CommandFailure` when there is none, or more than one.
    func entry(uid: String, attributes: [AttributeName] = []) async throws -> Entry {
        try await CommandFailure.translating {
            let isMeant = Filter.equal("uid", AttributeValue(uid))
            let request = SearchRequest(
                base: scope.base, scope: .subtree, filter: scope.condition.map { .and([isMeant, $0]) } ?? isMeant,
                attributes: scope.names.requested + ["uid"] + attributes)
            var found: [Entry] = []
            for try await entry in connection.search(request) { found.append(entry) }
            guard let entry = found.first else {
                throw CommandFailure(
                    "there is no account with uid \(String(reflecting: uid)) below \(scope.base)"
                        + (scope.condition == nil ? "" : " that meets SEARCH_FILTER"),
                    hint: "look it up with: prov-backup-rsnapshot accounts list")
            }
            guard found.count == 1 else {
                throw CommandFailure(
                    "\(found.count) entries below \(scope.base) have the uid \(uid): \(found.map(\.dn.description).joined(separator: "; "))",
                    hint: "a uid must be one account's alone")
            }
            return entry
        }
    }

    func status(uid: String) async throws -> AccountStatus {
        let entry = try await entry(uid: uid)
        guard let status = AccountStatus(entry, names: scope.names) else {
            let absence = AccountStatus.absence(from: entry, names: scope.names)
            throw CommandFailure("\(entry.dn) takes no part in provisioning: \(absence.reason)", hint: absence.hint)
        }
        return status
    }

    /// - Throws: `CommandFailure` where the directory has no place for a ReturnValue.
    func failed() throws -> Filter {
        guard let filter = scope.failed else {
            throw CommandFailure(
                "failed accounts cannot be told in this directory: RETURN_VALUE is empty",
                hint: "name an attribute for it in [Attributes], or look into the log")
        }
        return filter
    }

    func failedUIDs() async throws -> [String] {
        var uids: [String] = []
        try await forEach(try failed()) { _, uid, _ in uids.append(uid) }
        return uids
    }

    /// Writes the wish again.
    /// - Returns: the mode that was written.
    func retry(uid: String) async throws -> ProvisioningMode {
        let status = try await status(uid: uid)
        guard TransitionTable.transition(from: status.phase, on: .retry) == .becomes(.wished) else {
            throw CommandFailure(
                "\(status.dn) stands at \(status.mode)/\(status.state) and has not failed",
                hint: "see: \(AccountCommand.explain.text(uid))")
        }
        let write = EntryWrite.retry(status, names: scope.names)
        try await commit(write, to: status.dn)
        return write.mode
    }

    /// Takes the claim off an account whose holder is gone for good.
    /// - Returns: the claim that was there.
    func release(uid: String) async throws -> String {
        let status = try await status(uid: uid)
        guard let claim = status.claim, let write = EntryWrite.release(status, names: scope.names) else {
            throw CommandFailure(
                "\(status.dn) carries no claim" + (scope.names.claim == nil ? ", and CLAIM is empty" : ""),
                hint: "see: \(AccountCommand.explain.text(uid))")
        }
        try await commit(write, to: status.dn)
        return claim
    }

    private func commit(_ write: EntryWrite, to dn: DN) async throws {
        do {
            try await connection.modify(dn, write.modifications, asserting: write.assertion)
        } catch {
            guard error.code == .noSuchAttribute || error.code == .assertionFailed else { throw CommandFailure(error) }
            throw CommandFailure("\(dn) was changed by somebody else meanwhile", hint: "look at it again")
        }
    }
}
