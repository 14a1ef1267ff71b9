package import JobCore
package import SystemPackage

extension FileTrust {
    /// Refuses what others could change (row L2). It waits for the file systems it looks at.
    /// - Parameters:
    ///   - setting: the key of the settings that names it, or a program's name.
    ///   - code: that of the failure.
    /// - Throws: class configuration, or shortage where the machine could not look at it.
    package static func demand(
        _ path: FilePath, as kind: Kind = .program, setting: String, code: ProvisioningExitCode
    ) throws(ProvisioningFailure) {
        do {
            try check(path, as: kind)
        } catch {
            throw ProvisioningFailure(
                code, error.failureClass, reason: "\(setting) is refused: \(error.finding)",
                cure: error.isAbsent ? "put it there, or correct \(setting)" : error.cure)
        }
    }
}
