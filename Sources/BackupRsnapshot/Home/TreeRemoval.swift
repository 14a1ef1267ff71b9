import Glibc
import SystemPackage

/// Removes a folder with all that is in it: never through a symbolic link, never across a mount, and with few descriptors however
/// deep the tree goes.
struct TreeRemoval {
    /// Deeper folders are first moved up to the top, for an account can nest them deeper than there are descriptors.
    private static let greatestDepth = 64

    let isCancelled: @Sendable () -> Bool

    /// - Parameters:
    ///   - name: what is removed; a name that is gone already is no failure.
    ///   - parent: the folder it lies in.
    func remove(_ name: FilePath.Component, in parent: HeldFolder) throws {
        guard let status = try parent.status(of: name) else { return }
        guard status.st_mode & S_IFMT == S_IFDIR else { return try parent.removeFile(name) }
        guard let top = try parent.folder(name, reach: .sameFileSystem) else { return }
        var moved = 0
        repeat {
            let before = moved
            try empty(top, top: top, depth: 1, moved: &moved)
            if moved == before { break }
        } while true
        try parent.removeEmptyFolder(name)
        try parent.synchronize()
    }

    private func empty(_ folder: HeldFolder, top: HeldFolder, depth: Int, moved: inout Int) throws {
        for name in try folder.names() {
            if isCancelled() { throw CancellationError() }
            guard let status = try folder.status(of: name) else { continue }
            if status.st_mode & S_IFMT != S_IFDIR {
                try folder.removeFile(name)
            } else if depth == Self.greatestDepth {
                repeat { moved += 1 } while try !folder.rename(name, into: top, as: .named(".removing-\(moved)"))
            } else if let inner = try folder.folder(name, reach: .sameFileSystem) {
                try empty(inner, top: top, depth: depth + 1, moved: &moved)
                try folder.removeEmptyFolder(name)
            }
        }
    }
}
