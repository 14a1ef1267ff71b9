import CLinux
import Glibc
public import SystemPackage

/// Small files that are replaced as a whole: a reader finds the old contents or the new, never a mixture, also after a kill or a crash.
enum StateFile {
    /// Larger files were not written by us; the rest is not read.
    private static let largestSize = 4096

    /// Takes as much memory as the file is long.
    /// - Returns: nil when there is no such file.
    static func read(_ file: FilePath, atMost largestSize: Int = largestSize) throws(StateFileError) -> [UInt8]? {
        do {
            let descriptor = try FileDescriptor.open(file, .readOnly, options: [.closeOnExec, .noFollow])
            return try descriptor.closeAfter {
                var status = stat()
                guard fstat(descriptor.rawValue, &status) == 0 else { throw Errno(rawValue: errno) }
                let size = min(Int(status.st_size), largestSize)
                return try [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
                    let bytes = UnsafeMutableRawBufferPointer(buffer)
                    var part = 0
                    repeat {
                        part = try descriptor.read(into: UnsafeMutableRawBufferPointer(rebasing: bytes[count...]))
                        count += part
                    } while part > 0 && count < size
                }
            }
        } catch Errno.noSuchFileOrDirectory {
            return nil
        } catch {
            throw StateFileError("read", file, error)
        }
    }

    /// Writes a new file beside the old one and puts it into its place.
    /// - Parameter isDurable: whether it must outlast a loss of power: costs a disk flush or two. Without, it outlasts the process alone.
    static func replace(_ file: FilePath, with contents: String, isDurable: Bool) throws(StateFileError) {
        // One writer of a file at a time: there is one daemon for a state directory, and the callers see to the rest.
        let draft = file.removingLastComponent().appending(".\(file.lastComponent?.string ?? "").new")
        do {
            let descriptor = try FileDescriptor.open(
                draft, .writeOnly, options: [.create, .truncate, .closeOnExec, .noFollow],
                permissions: [.ownerReadWrite, .groupRead, .otherRead])
            try descriptor.closeAfter {
                _ = try descriptor.writeAll(contents.utf8)
                if isDurable { try flush(descriptor) }
            }
            guard clinux_renameat2(AT_FDCWD, draft.string, AT_FDCWD, file.string, 0) == 0 else {
                throw Errno(rawValue: errno)
            }
            if isDurable {
                let directory = try FileDescriptor.open(
                    file.removingLastComponent(), .readOnly, options: [.directory, .closeOnExec])
                try directory.closeAfter { try flush(directory) }
            }
        } catch {
            throw StateFileError("write", file, error)
        }
    }

    /// What lies in a directory, without the directories `.` and `..`; nothing where it does not exist.
    static func names(in directory: FilePath) throws(StateFileError) -> [String] {
        guard let stream = opendir(directory.string) else {
            if errno == ENOENT { return [] }
            throw StateFileError("read", directory, Errno(rawValue: errno))
        }
        defer { closedir(stream) }
        var names: [String] = []
        errno = 0
        while let item = readdir(stream) {
            let name = withUnsafePointer(to: &item.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != ".", name != ".." { names.append(name) }
            errno = 0
        }
        guard errno == 0 else { throw StateFileError("read", directory, Errno(rawValue: errno)) }
        return names
    }

    /// Moves a file out of the way, for a person to look at: nothing is deleted.
    /// - Returns: its new name, `FILE.KIND-SECONDS`.
    static func setAside(_ file: FilePath, as kind: String = "damaged", at seconds: Int)
        throws(StateFileError) -> FilePath
    {
        for number in 0..<1000 {
            let aside = FilePath("\(file.string).\(kind)-\(seconds)\(number == 0 ? "" : "-\(number)")")
            if clinux_renameat2(
                AT_FDCWD, file.string, AT_FDCWD, aside.string, numericCast(CLINUX_RENAME_NOREPLACE))
                == 0
            {
                return aside
            }
            guard errno == EEXIST else { break }
        }
        throw StateFileError("set aside", file, Errno(rawValue: errno))
    }

    private static func flush(_ descriptor: FileDescriptor) throws {
        guard fsync(descriptor.rawValue) == 0 else { throw Errno(rawValue: errno) }
    }
}

/// A file of the state directory that could not be read or written.
public struct StateFileError: Error, Hashable, Sendable {
    /// What was tried: "read", "write", "set aside" or "remove".
    public var operation: String
    /// The file itself, also where a draft beside it or its directory was at fault.
    public var path: FilePath
    /// What the kernel said.
    public var errno: Errno

    init(_ operation: String, _ path: FilePath, _ error: any Error) {
        self.operation = operation
        self.path = path
        self.errno = error as? Errno ?? .ioError
    }
}

extension StateFileError: CustomStringConvertible {
    /// What failed, where, and what mends it.
    public var description: String {
        "\(path.printable): cannot \(operation): \(errno) (errno \(errno.rawValue)); \(hint)"
    }

    /// What mends it.
    public var hint: String {
        let directory = path.removingLastComponent().shellWord
        return switch errno {
        case _ where errno.isShortage || errno == .diskQuotaExceeded:
            errno.shortageHint(at: path.removingLastComponent())
        case .noSuchFileOrDirectory: "create the directory: mkdir -p \(directory)"
        default: "see that the daemon's user may write there: ls -ld \(directory) \(path.shellWord)"
        }
    }
}
