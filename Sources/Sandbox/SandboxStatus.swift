import Glibc
package import SystemPackage

/// What is the matter with a sandbox's directory.
package enum SandboxStatus: Sendable, Hashable {
    /// No sandbox has been started in this directory, or it has been removed.
    case absent
    /// There is data, but no server runs on it. A stale pid file counts for nothing.
    case stopped
    /// A server runs: its process, whether it is paused, and where it listens.
    case running(processID: Int32, paused: Bool, uris: [String])

    /// Looks at a directory. A process counts only when its command line proves that it is this sandbox's.
    ///
    /// - Throws: ``SandboxError/Code/directory`` where the directory is there and cannot be read.
    package static func of(_ directory: FilePath) throws(SandboxError) -> SandboxStatus {
        guard access(directory.string, F_OK) == 0 else { return .absent }
        let files = try SandboxFiles(existing: directory)
        guard try files.isSandbox() else { return .absent }
        guard let process = try SlapdProcess.running(in: files) else { return .stopped }
        let addresses = SandboxAddresses(text: try TextFile.read(files.addresses))
        return .running(processID: process.id, paused: process.isPaused, uris: addresses?.all ?? [])
    }
}
