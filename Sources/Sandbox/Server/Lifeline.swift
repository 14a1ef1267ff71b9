import SystemPackage

/// A pipe whose writing end only this process holds: the reader sees its end when this value or this process is gone.
final class Lifeline: Sendable {
    let reader: FileDescriptor
    private let writer: FileDescriptor

    init() throws(SandboxError) {
        do {
            (reader, writer) = try Self.pipe()
        } catch {
            throw SandboxError(.serverFailed, "cannot make a pipe: \(error)", hint: "allow more open files (ulimit -n)")
        }
    }

    deinit {
        for end in [reader, writer] {
            do {
                try end.close()
            } catch {
                // A pipe has nothing to write out: only a descriptor that is not ours cannot be closed.
                assertionFailure("a lifeline cannot be closed: \(error)")
            }
        }
    }

    private static func pipe() throws -> (FileDescriptor, FileDescriptor) {
        let ends = try FileDescriptor.pipe(options: .closeOnExec)
        return (ends.readEnd, ends.writeEnd)
    }
}
