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
