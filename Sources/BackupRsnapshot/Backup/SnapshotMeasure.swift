import Glibc
import SystemPackage

/// What snapshots take on the disk.
struct SnapshotSizes: Hashable, Sendable {
    /// All of them together, files that they share counted once.
    var total: UInt64
    /// What the newest one takes besides what it shares with the others.
    var increment: UInt64
}

/// Measures all snapshots of an account from scratch: allocated blocks, as du counts them, each file once however many names it has.
///
/// Errors: `HeldFolder.Failure`, `TreeWalk.LimitExceeded`, `CancellationError`.
struct SnapshotMeasure {
    private let root: HeldFolder
    private let limit: Int?
    private let isCancelled: () -> Bool

    /// - Parameters:
    ///   - root: the account's `.snapshots`.
    ///   - limit: names that the walk of one snapshot may come to.
    init(_ root: HeldFolder, limit: Int? = nil, isCancelled: @escaping () -> Bool) {
        self.root = root
        self.limit = limit
        self.isCancelled = isCancelled
    }

    /// - Parameters:
    ///   - newest: the snapshot that the last copy made.
    ///   - progress: how many snapshots of how many are measured.
    mutating func run(newest: FilePath.Component?, progress: (Int, Int) -> Void) throws -> SnapshotSizes {
        var count = SnapshotCount(root, limit: limit, isCancelled: isCancelled)
        var sizes = SnapshotSizes(total: try root.status().allocatedBytes, increment: 0)
        let names = try root.names().sorted { $0.string < $1.string }
        let ordered = names.filter { $0 != newest } + names.filter { $0 == newest }
        for (index, name) in ordered.enumerated() {
            let bytes = try bytes(of: name, &count)
            if name == newest { sizes.increment = bytes }
            sizes.total += bytes
            progress(index + 1, ordered.count)
        }
        return sizes
    }

    private func bytes(of name: FilePath.Component, _ count: inout SnapshotCount) throws -> UInt64 {
        guard let status = try root.status(of: name) else { return 0 }
        guard status.st_mode & S_IFMT == S_IFDIR else { return status.allocatedBytes }
        do {
            return try count.unknownBytes(of: name)
        } catch let failure as HeldFolder.Failure where HeldFolder.isElsewhere(failure.cause) {
            return 0
        }
    }
}
