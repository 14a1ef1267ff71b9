package import Provisioning
import SystemPackage

/// Why the size of an account's newest copy was not accepted.
package struct AcceptanceFailure: Error, Hashable, Sendable {
    /// What was wrong.
    package var reason: String
    /// What to do about it.
    package var hint: String
    /// Whether the same command may succeed later.
    package var isTemporary: Bool
}

extension BackupJobs {
    /// An operator's word that an account rightly holds far less than before: its newest copy becomes the one with which later ones are
    /// compared (``ShrinkAlarm``), and the last full snapshot is no longer kept beyond its level's number.
    /// - Parameter account: with ``inspectedAttributes``.
    /// - Returns: what the newest copy holds; nil when it had not shrunk.
    /// - Throws: ``AcceptanceFailure``.
    package static func acceptNewestCopy(
        of account: Account, _ configuration: BackupConfiguration
    ) throws -> (files: UInt64, bytes: UInt64)? {
        do {
            let described = try BackupAccount(reading: account.entry, for: .modify, places: configuration.places)
            let file = ConfigurationFile(
                directory: configuration.configurationDirectory, uid: described.uid, ownership: configuration.ownership)
            guard case .given(let home) = try HomeChoice(configuration: configuration).place(of: described),
                let snapshots = try SnapshotDirectory.open(in: home), let text = try file.trustedText()
            else {
                throw AcceptanceFailure(
                    reason: "the account has no home with snapshots, or no \(file.path)",
                    hint: ConfiguredSnapshots.provisionAgain, isTemporary: false)
            }
            let lock = try ConfiguredSnapshots(parsing: text).lockFile.map { try AccountLock($0) }
            defer { withExtendedLifetime(lock) {} }
            var state = try snapshots.state()
            guard let copy = state.lastCopy, copy != state.fullCopy else { return nil }
            state.fullCopy = copy
            try snapshots.record(state)
            return (copy.files, copy.bytes)
        } catch let failure as AcceptanceFailure {
            throw failure
        } catch let held as AccountLock.Held {
            throw AcceptanceFailure(
                reason: "a backup of the account runs: \(held.file) is held by \(held.holder)",
                hint: "wait for its end",
                isTemporary: true)
        } catch let failure as ProvisioningFailure {
            throw AcceptanceFailure(reason: failure.reason, hint: failure.hint, isTemporary: false)
        } catch let failure as HeldDirectory.Failure {
            throw AcceptanceFailure(
                reason: "could not \(failure.operation) \(failure.path): \(failure.cause)",
                hint: failure.cause.isShortage ? "see the disk and the kernel's log" : "run this command as root",
                isTemporary: false)
        } catch {
            throw AcceptanceFailure(
                reason: "the state of the snapshots cannot be read: \(error)", hint: "the next backup replaces it",
                isTemporary: false)
        }
    }
}

/// Tells a copy that holds far less than the last full one: the customer's files may be gone for a reason that nobody wanted.
///
/// Until a later copy is full again, or an operator accepts the new size, the last full snapshot is kept beyond its level's number.
enum ShrinkAlarm {
    /// A copy with less than this part of the files or of the bytes is a shrunk one.
    private static let part: UInt64 = 10

    /// - Parameter full: the last full copy; nil: there was none, so nothing can have shrunk.
    /// - Returns: the warning, or nil.
    static func warning(for copy: SnapshotState.CopiedTree, after full: SnapshotState.CopiedTree?, uid: String)
        -> String?
    {
        guard let full, isLess(copy.files, full.files) || isLess(copy.bytes, full.bytes) else { return nil }
        return
            "the copy has far less than the last full one (\(content(copy)) against \(content(full))); the last full "
            + "snapshot is kept until a copy is full again; if the customer deleted the files on purpose, run: "
            + "prov-backup-rsnapshot snapshots accept \(uid)"
    }

    private static func content(_ tree: SnapshotState.CopiedTree) -> String {
        let (files, bytes) = (tree.files == 1 ? "file" : "files", tree.bytes == 1 ? "byte" : "bytes")
        return "\(tree.files) \(files) with \(tree.bytes) \(bytes)"
    }

    private static func isLess(_ new: UInt64, _ old: UInt64) -> Bool {
        new < old / part + (old % part == 0 ? 0 : 1)
    }
}
