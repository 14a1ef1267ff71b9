import JobCore
import Provisioning

/// Makes the plain home, or, after the home script, makes sure of it and adds what it lacks.
struct PlainHomeStep: ProvisioningStep {
    let home: PlainHome
    /// Whether the home itself is made here, because no script does.
    let makesHome: Bool
    let name = "home"
    let preview: String

    init(home: PlainHome, makesHome: Bool) throws(ProvisioningFailure) {
        self.home = home
        self.makesHome = makesHome
        let folders = try home.preview()
        if makesHome {
            preview = folders
        } else {
            preview =
                "check that the script left \(home.home.path), and make what it did not:"
                + (folders.isEmpty ? " nothing" : "\n" + folders)
        }
    }

    func perform(in attempt: RunningAttempt) async throws {
        let (home, makesHome) = (home, makesHome)
        try await BlockingWork.run { _ in try home.complete(makesHome: makesHome) }
    }
}
