import LDAP

/// What became of a compare-and-set.
enum CommitOutcome: Hashable, Sendable {
    /// It stands in the entry; with the entryCSN that it got, where the server told.
    case written(csn: AttributeValue?)
    /// Somebody was faster: the entry no longer stands as it was read.
    case lost
    /// The entry still waits for this outcome, and others change it again and again, or the server does not show it as it was before.
    case disturbed(tries: Int)
    /// There is no such entry any more.
    case gone
    /// The directory will not have it, now or later.
    case refused(LDAPError)
}

/// Writes claims and outcomes, and knows afterwards whether they stand there.
@MainActor struct Committer {
    /// Gives the link to write on, and the entry where a write is in doubt.
    let reader: AccountReader

    /// Writes until the outcome is certain, also over lost connections: a compare-and-set may be repeated, and when it
    /// does not hold after a lost answer, the entry itself tells whether the first try had arrived.
    /// - Throws: `CancellationError` when the daemon stops first; then the outcome may be unknown, and the next start
    ///   decides from the entry.
    func commit(_ write: EntryWrite, to key: AccountKey) async throws -> CommitOutcome {
        var dn = key.dn
        var isDoubtful = false
        while true {
            let connection = try await reader.link.connection()
            do throws(LDAPError) {
                let after = try await connection.modify(
                    dn, write.modifications, asserting: write.assertion, postRead: [AttributeNames.entryCSN])
                reader.link.noteSuccess()
                return .written(csn: after?[AttributeNames.entryCSN].first)
            } catch {
                try Task.checkCancellation()
                switch error.code {
                case .noSuchAttribute, .assertionFailed:
                    return isDoubtful ? try await resolveDoubt(write, key) : .lost
                case .noSuchObject:
                    guard let entry = try await reader.entry(key, attributes: []), entry.dn != dn else { return .gone }
                    dn = entry.dn
                case _ where error.isRetryable:
                    isDoubtful = true
                    reader.link.drop(connection, because: error)
                default:
                    return .refused(error)
                }
            }
            try Task.checkCancellation()
        }
    }

    /// The outcome of a job. Others may change the entry while the job works, such as a server that notes each login: what matters is that it still
    /// waits for this outcome. That is read by the entryUUID, and the outcome written again under the entryCSN that was read.
    func settle(_ write: EntryWrite, to key: AccountKey) async throws -> CommitOutcome {
        var (write, key) = (write, key)
        for _ in 0..<Self.triesAtOnce {
            let outcome = try await commit(write, to: key)
            guard outcome == .lost else { return outcome }
            guard let entry = try await reader.entry(key, attributes: []) else { return .gone }
            guard let status = AccountStatus(entry, names: reader.scope.names) else { return .lost }
            if EntryVersion.is(status.csn, olderThan: write.csn) { break }
            guard let next = write.following(status) else { return .lost }
            (write, key) = (next, status.key)
        }
        return .disturbed(tries: Self.triesAtOnce)
    }

    private static let triesAtOnce = 3

    private static let mostLosses = 20

    /// See ``Engine/write(to:reading:_:)``.
    func write(
        to key: AccountKey, reading attributes: [AttributeName], _ change: (Entry) -> [Modification]
    ) async throws {
        let ours = reader.scope.accounts
        var losses = 0
        while true {
            guard let entry = try await reader.entry(key, attributes: attributes, meeting: ours) else {
                throw AccountGone(dn: key.dn)
            }
            let modifications = change(entry)
            guard !modifications.isEmpty else { return }
            let connection = try await reader.link.connection()
            do throws(LDAPError) {
                try await connection.modify(entry.dn, modifications)
                return reader.link.noteSuccess()
            } catch {
                try Task.checkCancellation()
                switch error.code {
                case .noSuchAttribute, .attributeOrValueExists, .noSuchObject:
                    losses += 1
                    // Nobody loses so often: what may be read may not be written.
                    if losses == Self.mostLosses { throw error }
                case _ where error.isRetryable: reader.link.drop(connection, because: error)
                default: throw error
                }
            }
        }
    }

    private func resolveDoubt(_ write: EntryWrite, _ key: AccountKey) async throws -> CommitOutcome {
        guard let entry = try await reader.entry(key, attributes: []) else { return .gone }
        let status = AccountStatus(entry, names: reader.scope.names)
        return status.map(write.isFulfilled) == true ? .written(csn: entry[AttributeNames.entryCSN].first) : .lost
    }
}
