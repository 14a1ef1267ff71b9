public import DirectoryClient
public import DirectoryModel

/// What became of a compare-and-set.
public enum CommitOutcome: Hashable, Sendable {
    /// It stands in the entry; with the entryCSN that it got, where the server told.
    case written(csn: AttributeValue?)
    /// Somebody was faster: the entry no longer stands as it was read.
    case lost
    /// There is no such entry any more.
    case gone
    /// The directory will not have it, now or later.
    case refused(DirectoryError)
}

/// Writes claims and outcomes, and knows afterwards whether they stand there.
public struct Committer: Sendable {
    private let reader: AccountReader

    /// - Parameter reader: gives the link to write on, and the entry where a write is in doubt.
    public init(reader: AccountReader) { self.reader = reader }

    /// Writes until the outcome is certain, also over lost connections: a compare-and-set may be repeated, and when it
    /// does not hold after a lost answer, the entry itself tells whether the first try had arrived.
    /// - Throws: `CancellationError` when the daemon stops first; then the outcome may be unknown, and the next start
    ///   decides from the entry.
    public func commit(_ write: EntryWrite, to key: AccountKey) async throws -> CommitOutcome {
        var dn = key.dn
        var isDoubtful = false
        while true {
            let connection = try await reader.link.connection()
            do throws(DirectoryError) {
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
                    await reader.link.drop(connection, because: error)
                default:
                    return .refused(error)
                }
            }
            try Task.checkCancellation()
        }
    }

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
            do throws(DirectoryError) {
                try await connection.modify(entry.dn, modifications)
                return reader.link.noteSuccess()
            } catch {
                try Task.checkCancellation()
                switch error.code {
                case .noSuchAttribute, .attributeOrValueExists, .noSuchObject:
                    losses += 1
                    // Nobody loses so often: what may be read may not be written.
                    if losses == Self.mostLosses { throw error }
                case _ where error.isRetryable: await reader.link.drop(connection, because: error)
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
