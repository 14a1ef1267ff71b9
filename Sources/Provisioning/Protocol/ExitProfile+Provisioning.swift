public import JobCore

extension ExitProfile {
    /// The codes of provisioning, by which a home script's end is read; 75 asks for another try.
    public static let provisioning = ExitProfile(name: "provisioning", codes: ProvisioningExitCode.allCases) { code in
        Meaning(code == .success ? .success : .failed, title: code.name)
    }
}
