import JobCore
import SystemPackage

/// The last full copy: the newest one that is whole and has not shrunk. Its snapshot is kept beyond its level's number until a later copy is full
/// again, or an operator accepts the newest one.
extension SnapshotTree {
    /// Whether a copy becomes the last full one. One that has shrunk does not, and of a partial one after a whole one it is unknown how much is
    /// missing.
    func replaces(_ full: SnapshotTree?) -> Bool {
        guard let full else { return true }
        return (isWhole != false || full.isWhole == false) && !hasShrunk(from: full)
    }

    /// Whether it has less than a tenth of the files or bytes of the last full copy: the customer may have lost files unintentionally.
    func hasShrunk(from full: SnapshotTree?) -> Bool {
        guard let full else { return false }
        func isLess(_ new: UInt64, _ old: UInt64) -> Bool { new < old / 10 + (old % 10 == 0 ? 0 : 1) }
        return isLess(files, full.files) || isLess(bytes, full.bytes)
    }

    /// Why the last full snapshot is kept, and how to end that; nil: this copy replaces it.
    func warning(after full: SnapshotTree?, uid: String) -> String? {
        guard let full, !replaces(full) else { return nil }
        let accept = "prov-backup-rsnapshot snapshots accept \(uid)"
        guard hasShrunk(from: full) else {
            return
                "the last whole snapshot is kept until a copy is whole again; if it is not needed, run: \(accept)"
        }
        return "the copy has far less than the last full one (\(text) against \(full.text)); the last full "
            + "snapshot is kept until a copy is full again; if the customer deleted the files on purpose, run: "
            + accept
    }

    private var text: String {
        "\(files) \(files == 1 ? "file" : "files") with \(bytes) \(bytes == 1 ? "byte" : "bytes")"
    }
}

extension SnapshotWork {
    /// Finds the last full copy. It is identified by its inode; if that is unknown, since the state file was lost or the volume was moved, by its
    /// name or by what it holds, so that nothing is dropped because a record is missing.
    /// - Returns: a warning if it had to be guessed.
    mutating func findFullCopy(isCancelled: @escaping () -> Bool) throws -> String? {
        guard let full = state.fullCopy else {
            guard try snapshots.inode(of: SnapshotRotation.keptName) != nil else { return nil }
            state.fullCopy = try count(SnapshotRotation.keptName, isCancelled)
            return nil
        }
        guard try !directory.names().contains(where: { try snapshots.inode(of: $0) == full.inode }) else { return nil }
        let isNewest = state.lastCopy == full
        let name =
            isNewest
            ? try configured.levels.lazy.compactMap { try newestSnapshot(of: $0.name) }.first
            : try snapshot(like: full, isCancelled)
        guard let name, let inode = try snapshots.inode(of: name) else { return nil }
        state.fullCopy?.inode = inode
        if isNewest {
            state.lastCopy?.inode = inode
            return nil
        }
        return
            "no snapshot has the recorded inode of the last full one, as after a move of the volume; \(name) is assumed to be it and kept"
    }

    /// nil: the level has no snapshot.
    private func newestSnapshot(of level: String) throws -> FilePath.Component? {
        try snapshots.snapshots().filter { $0.level.rawValue == level }.map(\.index).min()
            .map { SnapshotRotation.name(level, $0) }
    }

    /// The snapshot that holds what was recorded of a copy that later ones did not replace. No name tells: any level may have taken it over, also one
    /// that is no longer used, and a partial copy after it need not have shrunk. So of those that have not shrunk from it, it is the one with the
    /// nearest number of files, and of equal ones the newest.
    /// - Returns: nil if there is no snapshot.
    private func snapshot(
        like full: SnapshotTree, _ isCancelled: @escaping () -> Bool
    ) throws -> FilePath.Component? {
        // Levels that are no longer used come last: their snapshots may be old.
        let levels = configured.levels.map(\.name) + SnapshotLevel.allCases.map(\.rawValue)
        func age(_ snapshot: Snapshot) -> (level: Int, index: Int) {
            (levels.firstIndex(of: snapshot.level.rawValue) ?? levels.count, snapshot.index)
        }
        let names = try snapshots.snapshots().sorted { age($0) < age($1) }
            .map { SnapshotRotation.name($0.level.rawValue, $0.index) }
        var best: (name: FilePath.Component, distance: (shrunk: Int, files: UInt64))?
        var damage: HeldDirectory.Failure?
        for name in [SnapshotRotation.keptName] + names {
            guard try snapshots.inode(of: name) != nil else { continue }
            let copy: SnapshotTree
            do {
                copy = try count(name, isCancelled)
            } catch let failure as HeldDirectory.Failure where failure.isDamage {
                // It is damaged, and may be the one that is looked for.
                if name == SnapshotRotation.keptName { return name }
                damage = damage ?? failure
                continue
            }
            let distance = (
                shrunk: copy.hasShrunk(from: full) ? 1 : 0,
                files: max(copy.files, full.files) - min(copy.files, full.files)
            )
            if distance == (0, 0) { return name }
            if best.map({ distance < $0.distance }) ?? true { best = (name, distance) }
        }
        // If no other one can be it, the damaged one may be, and no backup may drop it.
        if let damage, best.map({ $0.distance.shrunk == 1 }) ?? true { throw damage }
        return best?.name
    }

    private func count(_ name: FilePath.Component, _ isCancelled: @escaping () -> Bool) throws -> SnapshotTree {
        try SnapshotCounter(directory, state.sizes, isCancelled: isCancelled).count(name)
    }
}
