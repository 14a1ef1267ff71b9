import Glibc
import JobCore
import Provisioning
import SystemPackage

/// An account's rsnapshot configuration on the disk.
///
/// A new text is written under a temporary name in the same directory, synchronised, and renamed over the old one: a crash leaves the old
/// file or the new one, never a part. The temporary name is always the same, so one left over is overwritten.
/// Diagnostics: code 7 with the path and the system's word.
struct ConfigurationFile: Hashable, Sendable {
    let directory: FilePath
    /// Whether the directory must be one that only root can write.
    let ownership: Ownership
    let path: FilePath
    /// Where a new text waits to be checked and renamed.
    let temporaryPath: FilePath

    private let name: FilePath.Component
    private let temporaryName: FilePath.Component

    init(directory: FilePath, uid: String, ownership: Ownership) {
        self.directory = directory
        self.ownership = ownership
        name = .named("\(uid).conf")
        temporaryName = .named(".\(uid).conf.new")
        path = directory.appending(name)
        temporaryPath = directory.appending(temporaryName)
    }

    /// The text as it stands there; nil where there is none, or something that is not a plain text file.
    func current() throws(ProvisioningFailure) -> String? {
        try explained("read") {
            do {
                let file = try FileDescriptor.open(path, .readOnly, options: [.closeOnExec, .noFollow, .nonBlocking])
                return try file.closeAfter {
                    var status = stat()
                    guard fstat(file.rawValue, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
                    return try SmallFile.text(of: file)
                }
            } catch Errno.noSuchFileOrDirectory, Errno.tooManySymbolicLinkLevels, Errno.illegalByteSequence {
                return nil
            }
        }
    }

    /// The text of a file that rsnapshot, which runs as root, may carry out: nobody but root can have written it. nil where there is none.
    /// - Throws: code 7 for a file or a directory that others could change.
    func trustedText() throws(ProvisioningFailure) -> String? {
        try explained("read") {
            if ownership == .account, let status = try trusted().status(of: name) {
                let objection =
                    status.st_mode & S_IFMT == S_IFREG ? HomeWalk.objection(to: status) : "is not a plain file"
                if let objection {
                    throw ProvisioningFailure(
                        .cannotCreateRsnapshotConfiguration,
                        reason: "\(path), which rsnapshot carries out as root, \(objection)",
                        hint: "see who wrote it; then rm \(path.shellWord), and " + ConfiguredSnapshots.provisionAgain)
                }
            }
            return try current()
        }
    }

    /// Whether anything stands at the path, links not followed.
    func exists() throws(ProvisioningFailure) -> Bool {
        try explained("examine") { try HeldDirectory(configured: directory).status(of: name) != nil }
    }

    /// Whether a crash, or a check that is under way, has left a new text.
    func hasTemporary() throws(ProvisioningFailure) -> Bool {
        try explained("examine") { try HeldDirectory(configured: directory).status(of: temporaryName) != nil }
    }

    func writeTemporary(_ text: String) throws(ProvisioningFailure) {
        try explained("write") {
            let held = try trusted()
            try held.removeFile(temporaryName)
            let file = try FileDescriptor.open(
                temporaryPath, .writeOnly, options: [.create, .exclusiveCreate, .noFollow, .closeOnExec],
                permissions: [.ownerReadWrite])
            try file.closeAfter {
                try file.writeAll(text.utf8)
                guard fchmod(file.rawValue, 0o640) == 0, fsync(file.rawValue) == 0 else { throw Errno(rawValue: errno) }
            }
        }
    }

    func putTemporaryInPlace() throws(ProvisioningFailure) {
        try explained("rename") {
            let held = try trusted()
            guard rename(temporaryPath.string, path.string) == 0 else { throw Errno(rawValue: errno) }
            try held.synchronize()
        }
    }

    func removeTemporary() throws(ProvisioningFailure) {
        try explained("remove") { try HeldDirectory(configured: directory).removeFile(temporaryName) }
    }

    /// A file that is gone already is no failure.
    func remove() throws(ProvisioningFailure) {
        try explained("remove") {
            let held = try trusted()
            try held.removeFile(temporaryName)
            try held.removeFile(name)
            try held.synchronize()
        }
    }

    private func trusted() throws -> HeldDirectory {
        let held = try HeldDirectory(configured: directory)
        if ownership == .account, let objection = HomeWalk.objection(to: try held.status()) {
            throw ProvisioningFailure(
                .cannotCreateRsnapshotConfiguration, .configuration,
                reason: "\(directory), whose files rsnapshot carries out as root, \(objection)",
                hint: "chown root \(directory.shellWord); chmod go-w \(directory.shellWord)")
        }
        return held
    }

    func explained<Value>(_ operation: String, _ body: () throws -> Value) throws(ProvisioningFailure) -> Value {
        do {
            return try body()
        } catch let failure as ProvisioningFailure {
            throw failure
        } catch {
            let cause = (error as? HeldDirectory.Failure)?.cause ?? error as? Errno
            let failureClass: FailureClass
            let hint: String
            switch cause {
            case .noSuchFileOrDirectory?, .notDirectory?:
                failureClass = .configuration
                hint = "install -d -m 0755 \(directory.shellWord), or correct RSNAPSHOT_CONFIG_DIRECTORY"
            case let cause? where cause.isShortage:
                failureClass = .shortage
                hint = cause.shortageHint(at: directory)
            default:
                failureClass = cause.flatMap { FailureClass($0) } ?? .permanent
                hint = "look at what stands there, at the rights of \(directory) and at the disk"
            }
            throw ProvisioningFailure(
                .cannotCreateRsnapshotConfiguration, failureClass,
                reason: "could not \(operation) \(path): \(cause.map { "\($0)" } ?? "\(error)")", hint: hint)
        }
    }
}
