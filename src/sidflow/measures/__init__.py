"""What is measured: ranking metrics, spectra, tau, neighbourhoods, intervals and tests."""
