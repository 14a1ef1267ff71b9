import LDAP

/// The result of a compare-and-set.
enum WriteResult: Hashable, Sendable {
    /// With the new entryCSN, where the server returned it.
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

/// Writes claims and outcomes, and finds out whether a write of unknown outcome was carried out.
@MainActor struct EntryWriter {
    let reader: AccountReader

    /// Writes until the outcome is known, also over lost connections: a compare-and-set may be repeated, and when the repeated one is lost,
    /// the entry tells whether the first one was carried out.
    /// - Throws: `CancellationError` when the daemon stops first. Then the outcome may be unknown, and the next start decides from the entry.
    func write(_ write: EntryWrite, to key: AccountKey) async throws -> WriteResult {
        var dn = key.dn
        var isOutcomeUnknown = false
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
                    return isOutcomeUnknown ? try await resolveUnknownOutcome(write, key) : .lost
                case .noSuchObject:
                    guard let entry = try await reader.entry(key, attributes: []), entry.dn != dn else { return .gone }
                    dn = entry.dn
                case _ where error.isRetryable:
                    isOutcomeUnknown = true
                    reader.link.drop(connection, because: error)
                default:
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
            guard let entry = try await reader.entry(key, attributes: []) else { return .gone }
            guard let status = AccountStatus(entry, names: reader.scope.names) else { return .lost }
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
                    // So many lost races in a row mean something else: an attribute that may be read and not written.
                    if losses == Self.mostLosses { throw error }
                case _ where error.isRetryable: reader.link.drop(connection, because: error)
                default: throw error
                }
            }
        }
    }

    private func resolveUnknownOutcome(_ write: EntryWrite, _ key: AccountKey) async throws -> WriteResult {
        guard let entry = try await reader.entry(key, attributes: []) else { return .gone }
        let status = AccountStatus(entry, names: reader.scope.names)
        return status.map(write.isFulfilled) == true ? .written(csn: entry[AttributeNames.entryCSN].first) : .lost
    }
}
