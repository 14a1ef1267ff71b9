import Glibc
import SystemPackage

/// The Python side, which is part of this program: written into a folder of our own before it is used, so that it always fits.
enum HandlerModule {
    /// What the interpreter is told to run.
    static let host = "bacula_host.py"

    private static var files: [(name: String, contents: [UInt8])] {
        [
            ("bacula.py", PackageResources.bacula_py), ("bacula_job.py", PackageResources.bacula_job_py),
            ("bacula_link.py", PackageResources.bacula_link_py), (host, PackageResources.bacula_host_py),
        ]
    }

    /// Makes the folder where it is not there, and puts the files into it, each as a whole.
    /// - Throws: when the folder could be changed by somebody else, or cannot be written to.
    static func write(into folder: FilePath) throws(HandlerModuleError) {
        if folder.withPlatformString({ mkdir($0, 0o700) }) != 0, errno != EEXIST {
            throw HandlerModuleError(
                folder: folder, reason: "cannot be made: \(Errno(rawValue: errno))",
                hint: "see that the folder above it exists and can be written to")
        }
        do throws(FileTrustError) {
            try FileTrust.check(folder, as: .directory)
        } catch {
            throw HandlerModuleError(folder: folder, reason: error.findingOfFile, hint: error.hint)
        }
        do throws(StateFileError) {
            for file in files {
                try StateFile.replace(
                    folder.appending(file.name), with: String(decoding: file.contents, as: UTF8.self), isDurable: false)
            }
        } catch {
            throw HandlerModuleError(
                folder: folder, reason: "cannot be written to: \(error)", hint: "make room, or correct its owner")
        }
    }
}

/// Why the Python side could not be put into place.
struct HandlerModuleError: Error, Hashable, Sendable, CustomStringConvertible {
    var folder: FilePath
    var reason: String
    var hint: String

    var description: String { "\(folder.printable): \(reason); \(hint)" }
}
