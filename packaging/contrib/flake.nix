# NOT TRIED: nobody has run this yet. `nix build ./packaging/contrib` in a clone of the repository.
{
  description = "Encrypted vaults on an SSH server as an ordinary folder";
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";
  outputs = { self, nixpkgs }:
    let
      systems = [ "x86_64-linux" "aarch64-linux" ];
      each = make: nixpkgs.lib.genAttrs systems (system: make nixpkgs.legacyPackages.${system});
    in {
      packages = each (pkgs: {
        default = pkgs.rustPlatform.buildRustPackage {
          pname = "scaup";
          version = "0.1.0";
          src = ../..;
          cargoLock.lockFile = ../../Cargo.lock;
          buildNoDefaultFeatures = true;
          # They need root, FUSE and an SSH server.
          doCheck = false;
          nativeBuildInputs = [ pkgs.installShellFiles pkgs.cmake ];
          postInstall = ''
            $out/bin/scaup man .
            installManPage *.1 *.5 *.8
            installShellCompletion --cmd scaup \
              --bash <($out/bin/scaup completions bash) \
              --zsh <($out/bin/scaup completions zsh) \
              --fish <($out/bin/scaup completions fish)
            install -Dm644 packaging/scaup@.service $out/lib/systemd/user/scaup@.service
            substituteInPlace $out/lib/systemd/user/scaup@.service --replace-fail /usr/bin/scaup $out/bin/scaup
          '';
          meta.license = with pkgs.lib.licenses; [ mit asl20 ];
        };
      });
    };
}
