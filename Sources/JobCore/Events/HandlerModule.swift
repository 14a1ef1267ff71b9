import Glibc
import SystemPackage

/// The Python side, which is part of this program: written into a directory of our own before it is used, so that it always fits.
enum HandlerModule {
    /// What the interpreter is told to run.
    static let host = "bacula_host.py"

    private static var files: [(name: String, contents: [UInt8])] {
        [
            ("bacula.py", PackageResources.bacula_py), ("bacula_job.py", PackageResources.bacula_job_py),
            ("bacula_link.py", PackageResources.bacula_link_py), (host, PackageResources.bacula_host_py),
        ]
    }

    /// Makes the directory where it is not there, and puts the files into it, each as a whole.
    /// - Throws: when the directory could be changed by somebody else, or cannot be written to.
    static func write(into directory: FilePath) throws(HandlerModuleError) {
        if directory.withPlatformString({ mkdir($0, 0o700) }) != 0, errno != EEXIST {
            throw HandlerModuleError(
                directory: directory, reason: "cannot be made: \(Errno(rawValue: errno))",
                hint: "see that the directory above it exists and can be written to")
        }
        do throws(FileTrustError) {
            try FileTrust.check(directory, as: .directory)
        } catch {
            throw HandlerModuleError(directory: directory, reason: error.findingOfFile, hint: error.hint)
        }
        do throws(StateFileError) {
            for file in files {
                try StateFile.replace(
                    directory.appending(file.name), with: String(decoding: file.contents, as: UTF8.self),
                    isDurable: false)
            }
        } catch {
            throw HandlerModuleError(
                directory: directory, reason: "cannot be written to: \(error)", hint: "make room, or correct its owner")
        }
    }
}

/// Why the Python side could not be put into place.
struct HandlerModuleError: Error, Hashable, Sendable, CustomStringConvertible {
    var directory: FilePath
    var reason: String
    var hint: String

    var description: String { "\(directory.printable): \(reason); \(hint)" }
}
